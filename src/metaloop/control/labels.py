"""What a policy that learns from histories is to predict at each of their steps."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
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


class BestOncePaid(ActionLabel):
    """The action that was taken until a trial's first reward that is above 0, and the best action from then on.

    For environments whose rewards are rare: a policy learns to search as the one that acted, and to use at once what it found.
    """

    best: ClassVar[bool] = True

    def of(self, rollouts: Rollouts) -> Tensor:
        """See :meth:`ActionLabel.of`."""
        assert rollouts.best is not None
        paid = (rollouts.rewards > 0).cumsum(0)
        before = torch.cat([torch.zeros_like(paid[:1]), paid[:-1]])
        return torch.where(before > 0, rollouts.best, rollouts.actions)
