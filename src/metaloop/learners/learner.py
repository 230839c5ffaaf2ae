"""What every meta-learner is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

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
        over_tasks_name: how tasks are run, for the record.
    """

    needs_head: ClassVar[bool]
    model: nn.Module

    @property
    @abstractmethod
    def transductive(self) -> bool:
        """Does a query's answer depend on the other queries?"""

    @property
    @abstractmethod
    def over_tasks_name(self) -> str:
        """How per-task functions are run over tasks."""

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
