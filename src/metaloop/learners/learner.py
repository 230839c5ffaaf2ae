"""What every meta-learner is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.inner.over_tasks import OverTasks
from metaloop.types import Examples, Inputs, OuterLoss, Tasks

Answer = Callable[[Inputs, Tensor | None], Tensor]


@dataclass(frozen=True)
class Predictor:
    """An adapted learner: stacked tasks' queries in, logits (or values) out.

    Attributes:
        iterates: one function for the state before adaptation and after each inner step, the adapted one last; learners that
            adapt in one go have one. Each maps x (tasks, queries, *input) and a mask (tasks, queries) or None to
            (tasks, queries, *output).
    """

    iterates: Sequence[Answer]

    def __call__(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """(tasks, queries, *output): the adapted learner's answers."""
        return self.iterates[-1](x, mask)

    def curve(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """(points, tasks, queries, *output): the answers before adaptation and after each step."""
        return torch.stack([answer(x, mask) for answer in self.iterates])


class Learner(nn.Module, ABC):
    """A meta-learner: all its parameters are meta-parameters. Subclasses are final; nobody overrides a concrete method.

    Attributes:
        needs_head: whether the model must answer as many numbers as the task asks; otherwise it answers features.
        model: the network.
        over_tasks: how per-task functions are run; what it chose by timing is saved with the parameters.
        outer_step: outer steps taken so far; the outer loop sets it, for learners that change on the way.
    """

    needs_head: ClassVar[bool]
    model: nn.Module
    over_tasks: OverTasks
    outer_step: int = 0

    def get_extra_state(self) -> dict[str, str]:
        """What the state dict holds beside tensors."""
        return self.over_tasks.choices()

    def set_extra_state(self, state: dict[str, str]) -> None:
        """The inverse of :meth:`get_extra_state`."""
        self.over_tasks.restore(state)

    @property
    @abstractmethod
    def transductive(self) -> bool:
        """Does a query's answer depend on the other queries?"""

    @abstractmethod
    def check(self, ways: int) -> None:
        """Raise a UserError where tasks of (at most) this many ways cannot be learned."""

    @abstractmethod
    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """Learn stacked tasks from their support sets. Query labels cannot leak: they are no argument.

        Args:
            support: (tasks, examples, ...).
            unlabelled: (tasks, examples, *input) for learners that use them.
        """

    @abstractmethod
    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """The outer loss of a meta-batch; ``.loss.backward()`` gives the meta-gradient."""
