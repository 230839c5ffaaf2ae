"""The contract of meta-learners: :class:`Learner`.

:class:`TakesSteps` is for learners that take inner steps, :class:`PureOuterStep` for those whose outer steps can be compiled,
:class:`Explains` for those that say how they predict.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.problem import InnerProblem
from metaloop.learners.gradient.functional_model import FunctionalModel
from metaloop.learners.gradient.gradient_task import GradientTask
from metaloop.types import Examples, Inputs, OuterLoss, Params, Tasks

Answer = Callable[[Inputs, Tensor | None], Tensor]
Preparation = Callable[[Inputs, Tensor | None], Inputs]


@dataclass(frozen=True)
class Predictor:
    """An adapted learner, which maps the queries of stacked tasks to logits or values.

    Answers have the shape (tasks, queries, ways) in classification and (tasks, queries, *target) in regression. Learners that
    predict normal distributions answer (tasks, queries, *target, 2): means and standard deviations.

    Attributes:
        iterates: functions from x (tasks, queries, *input) and a mask (tasks, queries) or None to (tasks, queries, *output).
            The first answers before adaptation, the others after inner steps, the last with the adapted learner. Learners
            that adapt without inner steps have one.
        steps: number of inner steps taken at each of ``iterates``; None for 0, 1, 2 and so on.
        prepare: a part of the computation that all iterates share. It is done once and its result passed to them in the place
            of x. None for nothing.
        adapted: parameters after the last inner step by name, (tasks, ...) each, from which :class:`TakesSteps` restores the
            last iterate; None for learners without inner steps.
    """

    iterates: Sequence[Answer]
    steps: Sequence[int] | None = None
    prepare: Preparation | None = None
    adapted: Params | None = None

    def __call__(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """Answer queries with the adapted learner: (tasks, queries, *output)."""
        return self.iterates[-1](self._prepared(x, mask), mask)

    def curve(self, x: Inputs, mask: Tensor | None = None) -> Tensor:
        """Answer queries with every iterate: (points, tasks, queries, *output)."""
        x = self._prepared(x, mask)
        return torch.stack([answer(x, mask) for answer in self.iterates])

    @property
    def curve_steps(self) -> tuple[int, ...]:
        """Number of inner steps taken at each point of :meth:`curve`."""
        return tuple(range(len(self.iterates)) if self.steps is None else self.steps)

    def _prepared(self, x: Inputs, mask: Tensor | None) -> Inputs:
        return x if self.prepare is None else self.prepare(x, mask)


@dataclass(frozen=True)
class Requirements:
    """Arguments that metaloop must pass to a learner's constructor besides ``model`` and ``loss``.

    Attributes:
        head: whether the model needs a head, which answers one number for each class or target; False for a model that
            answers features.
        classes: whether the constructor takes ``classes``, the number of meta-training classes (None if the data set does not
            number its classes).
        outputs: whether the constructor takes ``outputs``, the numbers that a query's answer has: the highest ways of a
            training task, or the target's size.
        actions: whether the constructor takes ``actions``, those of the environments. Only learners that act in environments
            do, and only they can be taken with such data sets.
    """

    head: bool = True
    classes: bool = False
    outputs: bool = False
    actions: bool = False


class Learner(nn.Module, ABC):
    """A meta-learner. All its parameters are meta-parameters. Subclasses are final: concrete methods are not overridden.

    Attributes:
        requires: arguments that the constructor takes besides ``model`` and ``loss``.
        uses_unlabelled: whether the learner uses unlabelled examples of the support set; if not, it refuses them.
        model: the network.
        embedding: the network as a function of its parameters, for learners that compare or read features; None for others.
        over_tasks: how per-task functions are run; choices that it made by timing are saved with the parameters.
        outer_step: number of outer steps taken so far, set by the outer loop for learners with a schedule.
        curve_over: what the iterates of its predictor count, in the singular: inner steps, or the episodes of a trial.
        learns: whether outer steps change any parameter. If not, a run takes one outer step, which writes its checkpoint.
        passes: outer steps in a row that get the same meta-batch.
        whole_step: whether the gradient is the outer step itself, the parameters before minus those after it. The outer
            optimizer must then be plain SGD at rate 1, and nothing may change the gradient.
    """

    requires: ClassVar[Requirements]
    uses_unlabelled: bool = False
    model: nn.Module
    embedding: FunctionalModel | None = None
    over_tasks: OverTasks
    outer_step: int = 0
    curve_over: ClassVar[str] = "inner step"
    learns: bool = True
    passes: int = 1
    whole_step: bool = False

    def get_extra_state(self) -> dict[str, str]:
        """Return the entries of the state dict that are no tensors: the choices of ``over_tasks``."""
        return self.over_tasks.choices()

    def set_extra_state(self, state: dict[str, str]) -> None:
        """Restore what :meth:`get_extra_state` returned."""
        self.over_tasks.restore(state)

    @property
    @abstractmethod
    def transductive(self) -> bool:
        """Whether a query's answer depends on the other queries."""

    @abstractmethod
    def check(self, ways: int) -> None:
        """Raise a UserError if the learner cannot learn tasks of up to this many ways."""

    @abstractmethod
    def adapt(self, support: Examples, unlabelled: Inputs | None = None) -> Predictor:
        """Adapt to stacked tasks by their support sets. Query labels are no argument, so they cannot leak.

        Args:
            support: (tasks, examples, ...).
            unlabelled: (tasks, examples, *input), for learners that use them; None for those of the support set.
        """

    @abstractmethod
    def meta_loss(self, tasks: Tasks) -> OuterLoss:
        """Compute the outer loss of a meta-batch; its ``loss.backward()`` gives the meta-gradient."""


@dataclass(frozen=True)
class Explanation:
    """What a learner says about how it predicts.

    Attributes:
        importances: how much each feature matters, as shares that add up to 1, most important first; empty if unknown.
        tree: lines of a printed decision tree; empty for a learner without one.
        choice: sentences about the prediction for one query; empty without a query.
    """

    importances: Mapping[str, float]
    tree: Sequence[str]
    choice: Sequence[str]


class Explains(ABC):
    """A learner that can say in words of named features how it predicts."""

    @abstractmethod
    def explain(
        self, support: Examples, features: Sequence[str], actions: Sequence[str], query: Tensor | None = None
    ) -> Explanation:
        """Explain the predictor of one task's support set (1, examples, ...).

        Args:
            support: the support set.
            features: names of the features.
            actions: names of the outputs.
            query: (*input) of a query whose prediction is to be explained; None for none.
        """


class TakesSteps(ABC):
    """A learner that adapts by inner steps, so that its adapted parameters can be saved and inspected.

    Attributes:
        task: the start, losses and answers of a task.
        problem: the inner problem: how parameters adapt to a task.
    """

    task: GradientTask
    problem: InnerProblem

    @abstractmethod
    def steps_for(self, examples: int) -> int:
        """Return the number of inner steps outside meta-training, for support sets of so many examples."""

    @abstractmethod
    def values(self) -> Params:
        """Return what ``problem`` reads, without a graph: the meta-parameters, and a rule state that is kept between tasks."""

    @abstractmethod
    def adapted_before(self, support: Examples, adapted: Params) -> Predictor:
        """Restore the predictor that :meth:`Learner.adapt` returned for this support set, without taking steps again.

        Args:
            support: (tasks, examples, ...).
            adapted: ``Predictor.adapted`` of that predictor.
        """


class PureOuterStep(ABC):
    """A learner whose meta-gradient is a pure function, so that many outer steps can be taken by one compiled function."""

    @abstractmethod
    def phase(self, outer_step: int) -> Hashable | None:
        """Return what the function of an outer step depends on; steps of equal phases compute the same function.

        None if the step does more than compute a gradient, such as moving running averages.
        """

    @abstractmethod
    def outer_gradient(self, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """Return the gradient of the mean outer loss with respect to ``meta``, and outputs stacked over tasks.

        Args:
            meta: all parameters that the outer loop learns, by their names in the learner.
            tasks: the meta-batch.
            over_tasks: how per-task functions are run.

        Returns:
            The gradients by name, and outputs of which ``loss`` (tasks,) are the tasks' losses.
        """
