"""How the outer loss reaches the meta-parameters."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks, with_gradient
from metaloop.inner.meta_gradients.window import stretch
from metaloop.inner.problem import MODEL, InnerProblem
from metaloop.types import Examples, OuterLoss, Params, Tasks


class MetaGradient(ABC):
    """From "how tasks adapt" to a scalar whose gradient is the meta-gradient."""

    @abstractmethod
    def check(self, problem: InnerProblem) -> None:
        """Raise a UserError, before training starts, where this cannot give ``problem``'s meta-gradient."""

    @abstractmethod
    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """The mean meta-gradient, and stacked per task: ``loss`` (tasks,), ``logits``, ``per_step`` (tasks, points)."""

    def loss(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> OuterLoss:
        """The outer loss of a meta-batch; ``.loss.backward()`` gives each of ``meta`` its mean meta-gradient."""
        gradients, aside = (self if meta else Nothing()).mean(problem, meta, tasks, over_tasks)
        value = aside["loss"].mean()
        if torch.is_grad_enabled():
            # Without meta-parameters there is no gradient to give, but a loop that calls backward() must still be able to.
            value = with_gradient(value, meta, gradients) if meta else value.detach().requires_grad_()
        return OuterLoss(value, aside["logits"], aside["per_step"])


@dataclass(frozen=True)
class EpisodeLoss:
    """The objective's query loss of one task, differentiable in ``meta``. Equal ones share compiled code."""

    problem: InnerProblem
    exact_from: int  # the step from which on inner gradients are differentiated; before it they are constants

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        """The scalar, and what :meth:`MetaGradient.mean` returns of a task."""
        span = range(self.problem.horizon)
        seen, _ = stretch(self.problem, meta, support, query, span, autodiff, exact_from=self.exact_from)
        total = seen.total()
        return total, {"loss": total, "logits": seen.logits[-1], "per_step": torch.stack(seen.losses)}


META, ITERATE = "meta:", "iterate:"


def query_gradients(
    problem: InnerProblem,
    meta: Params,
    params: Params,
    support: Examples,
    query: Examples,
    weight: float,
    autodiff: Autodiff,
) -> tuple[Params, Params, Params]:
    """Gradients of the weighted query loss with respect to ``meta`` and to one iterate; its ``loss`` and ``logits``."""
    both = {META + name: value for name, value in meta.items()} | {ITERATE + name: value for name, value in params.items()}

    def loss(at: Params) -> tuple[Tensor, Params]:
        value, logits = problem.task.query_loss(part(at, META), part(at, ITERATE), support, query)
        return weight * value, {"loss": value, "logits": logits}

    gradients, aside = autodiff.value_and_gradient(loss, both)
    return part(gradients, META), part(gradients, ITERATE), aside


def part(both: Params, prefix: str) -> Params:
    """The entries whose name starts with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in both.items() if name.startswith(prefix)}


class Unrolled(MetaGradient):
    """Backpropagation through all inner steps at once (MAML, Finn et al. 2017, equation 1).

    Exact. Every step's activations are kept, so memory grows with the steps; :class:`ReverseSweep` is flat.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_gradient(EpisodeLoss(problem, exact_from=0), meta, tasks)


class FirstOrder(MetaGradient):
    """Inner gradients are taken for constants (FOMAML, Finn et al. 2017, section 5.2).

    What the rule itself learns (rates) still gets its exact gradient given those constants.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_gradient(EpisodeLoss(problem, exact_from=problem.steps), meta, tasks)


@dataclass(frozen=True)
class TaskEvaluation:
    """The objective's query loss of one task, and a gradient of zero."""

    problem: InnerProblem

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Zero, and what :meth:`MetaGradient.mean` returns of a task."""
        with torch.no_grad():
            _, aside = EpisodeLoss(self.problem, exact_from=self.problem.steps)(meta, support, query, autodiff)
            return {name: torch.zeros_like(value) for name, value in meta.items()}, aside


class Nothing(MetaGradient):
    """Nothing is learned across tasks: the baseline of learning from scratch, and of optimisers tuned by hand.

    The outer optimiser sees a gradient of zero, so it needs to be one that then stands still: one without weight decay.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition works."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskEvaluation(problem), meta, tasks)


@dataclass(frozen=True)
class TaskDisplacement:
    """Start minus adapted parameters of one task; zero for what is not adapted."""

    problem: InnerProblem

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """The task's displacement, and what :meth:`MetaGradient.mean` returns of a task."""
        problem = self.problem
        with torch.no_grad():
            path = problem.iterates(meta, support, problem.steps, autodiff, second_order=False)
            gradients = {name: torch.zeros_like(value) for name, value in meta.items()}
            for name, start in path[0].items():
                if start is meta.get(MODEL + name):  # what starts elsewhere has no displacement
                    gradients[MODEL + name] = start - path[-1][name]
            loss, logits = problem.task.query_loss(meta, path[-1], support, query)
        return gradients, {"loss": loss, "logits": logits, "per_step": loss[None]}


class Displacement(MetaGradient):
    """The outer loop moves the start towards where tasks end (Reptile, Nichol et al. 2018, equation 1 with a batch of tasks).

    Only the start is learned, and from the support set alone: a rule with meta-parameters, or a head that does not start from
    learned values, has no displacement. With outer SGD at rate e this is the paper's update with step size e.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`.

        Raises:
            UserError: the rule has meta-parameters, or the objective looks at more than the last step.
        """
        if any(True for _ in problem.rule.parameters()):
            raise UserError(
                "algorithm.meta_gradient=displacement cannot learn the rule's parameters; take an algorithm/rule that has none"
            )
        if problem.weights[-1] != 1.0:
            raise UserError("algorithm.meta_gradient=displacement sees no query loss; take algorithm/objective=last_step")

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskDisplacement(problem), meta, tasks)
