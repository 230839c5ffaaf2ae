"""What every meta-learner is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.problem import InnerProblem
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

if TYPE_CHECKING:  # it imports this module
    from metaloop.learners.gradient.gradient_learner import GradientTask

Answer = Callable[[Inputs, Tensor | None], Tensor]
Preparation = Callable[[Inputs, Tensor | None], Inputs]


@dataclass(frozen=True)
class Predictor:
    """An adapted learner: stacked tasks' queries in, logits (or values) out.

    An answer is (tasks, queries, ways), (tasks, queries, *target), or, of learners that answer normal distributions, (tasks,
    queries, *target, 2), means and standard deviations.

    Attributes:
        iterates: one function for the state before adaptation and after inner steps, the adapted one last; learners that
            adapt in one go have one. Each maps x (tasks, queries, *input) and a mask (tasks, queries) or None to
            (tasks, queries, *output).
        steps: inner steps taken at each of ``iterates``, where they are not 0, 1, 2 and so on.
        prepare: what all iterates do to x in the same way, done once; they then get its result. None for nothing.
        adapted: the parameters after the last inner step by name, (tasks, ...) each, from which :class:`TakesSteps` makes the
            last iterate again; None for learners that adapt in one go.
    """

    iterates: Sequence[Answer]
    steps: Sequence[int] | None = None
    prepare: Preparation | None = None
    adapted: Params | None = None

    def __call__(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """(tasks, queries, *output): the adapted learner's answers."""
        return self.iterates[-1](self._prepared(x, mask), mask)

    def curve(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """(points, tasks, queries, *output): the answers before adaptation and after each of ``steps``."""
        x = self._prepared(x, mask)
        return torch.stack([answer(x, mask) for answer in self.iterates])

    @property
    def curve_steps(self) -> tuple[int, ...]:
        """The inner steps taken at each point of :meth:`curve`."""
        return tuple(range(len(self.iterates)) if self.steps is None else self.steps)

    def _prepared(self, x: Inputs, mask: Tensor | None) -> Inputs:
        return x if self.prepare is None else self.prepare(x, mask)


@dataclass(frozen=True)
class Requirements:
    """What the constructor of a learner's class takes from the program beside ``model`` and ``loss``.

    Attributes:
        head: whether the model must answer as many numbers as the task asks; otherwise it answers features.
        classes: whether it takes ``classes``, how many classes meta-training has (None where the data set does not number
            them).
        outputs: whether it takes ``outputs``, how many numbers a query asks: the highest ways of a training task, or the
            target's size.
    """

    head: bool = True
    classes: bool = False
    outputs: bool = False


class Learner(nn.Module, ABC):
    """A meta-learner: all its parameters are meta-parameters. Subclasses are final; nobody overrides a concrete method.

    Attributes:
        requires: what the constructor takes from the program.
        uses_unlabelled: whether unlabelled examples of the support set are looked at; where they are not, they are refused.
        model: the network.
        embedding: the network as learners call it that compare or read features; None for others.
        over_tasks: how per-task functions are run; what it chose by timing is saved with the parameters.
        outer_step: outer steps taken so far; the outer loop sets it, for learners that change on the way.
        learns: whether outer steps change anything; where they do not, a run takes one, which writes its checkpoint.
    """

    requires: ClassVar[Requirements]
    uses_unlabelled: bool = False
    model: nn.Module
    embedding: FunctionalModel | None = None
    over_tasks: OverTasks
    outer_step: int = 0
    learns: bool = True

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
            unlabelled: (tasks, examples, *input) for learners that use them; None: those that the support set brings.
        """

    @abstractmethod
    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """The outer loss of a meta-batch; ``.loss.backward()`` gives the meta-gradient."""


class TakesSteps(ABC):
    """A learner that takes inner steps, which leave adapted parameters that can be kept and looked at.

    Attributes:
        task: where a task starts, its losses and answers.
        problem: how a task is adapted to.
        eval_steps: inner steps outside of meta-training.
    """

    task: "GradientTask"
    problem: InnerProblem
    eval_steps: int

    @abstractmethod
    def adapted_before(self, support: Examples, adapted: Params) -> Predictor:
        """What :meth:`Learner.adapt` gave for this support set, without taking its steps again.

        Args:
            support: (tasks, examples, ...).
            adapted: ``Predictor.adapted`` of then.
        """
