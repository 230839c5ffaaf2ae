"""What a policy that learns from histories is to predict at each of their steps."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from metaloop.control.rollouts import Rollouts


class ActionLabel(ABC):
    """Labels of the steps of trials.

    Attributes:
        best: whether the best actions are needed.
    """

    best: ClassVar[bool]

    @abstractmethod
    def of(self, rollouts: Rollouts) -> Tensor:
        """Return the label of every step, (steps, tasks) int64."""


class Taken(ActionLabel):
    """The action that was taken, so that a policy learns to go on as the one that acted (Laskin et al. 2022)."""

    best: ClassVar[bool] = False

    def of(self, rollouts: Rollouts) -> Tensor:
        """See :meth:`ActionLabel.of`."""
        return rollouts.actions


class Best(ActionLabel):
    """The best action for the task, which only meta-training is told (Lee et al. 2023)."""

    best: ClassVar[bool] = True

    def of(self, rollouts: Rollouts) -> Tensor:
        """See :meth:`ActionLabel.of`."""
        assert rollouts.best is not None
        return rollouts.best
