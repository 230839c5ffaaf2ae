"""Meta-gradients: the gradient of the outer loss with respect to the meta-parameters."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import OverTasks, with_gradient
from metaloop.inner.meta_gradients.window import stretch
from metaloop.inner.problem import MODEL, STATE, InnerProblem
from metaloop.types import Examples, OuterLoss, Params, Tasks

_SHORTEST = 1e-9  # added to the length of a step, so that a step of length zero counts nothing


class MetaGradient(ABC):
    """A way to compute the gradient of the outer loss with respect to the meta-parameters, given the inner problem."""

    @abstractmethod
    def check(self, problem: InnerProblem) -> None:
        """Raise a UserError before training starts if this cannot compute the meta-gradient of ``problem``."""

    @abstractmethod
    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """Return the mean meta-gradient, and outputs stacked over tasks.

        The outputs are ``loss`` (tasks,), ``logits`` (tasks, queries, *output) of the last iterate that counts, and
        ``per_step`` (tasks, points), the query losses of the iterates that count. Beside them may stand tensors of the rule's
        last state (tasks, ...), their names under the prefix ``state.``.
        """

    def phase(self, outer_step: int) -> Hashable:
        """Return what :meth:`mean` depends on through the outer step: steps of equal phases compute the same function."""
        return None

    def loss(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> OuterLoss:
        """Return the outer loss of a meta-batch; its ``loss.backward()`` gives each of ``meta`` its mean meta-gradient."""
        gradients, outputs = (self if meta else Nothing()).mean(problem, meta, tasks, over_tasks)
        value = outputs["loss"].mean()
        if torch.is_grad_enabled():
            # Without meta-parameters there is no gradient, but the training loop must still be able to call backward().
            value = with_gradient(value, meta, gradients) if meta else value.detach().requires_grad_()
        return OuterLoss(value, outputs["logits"], outputs["per_step"], state=part(outputs, STATE))


@dataclass(frozen=True)
class EpisodeLoss:
    """The objective's query loss of one task, differentiable in ``meta``. Equal instances share compiled code."""

    problem: InnerProblem
    exact_from: int  # first step whose inner gradient is differentiated; earlier inner gradients are constants

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        """Return the scalar loss, and its entry of the outputs of :meth:`MetaGradient.mean`."""
        span = range(self.problem.horizon)
        counted, _ = stretch(self.problem, meta, support, query, span, autodiff, exact_from=self.exact_from)
        total = counted.total()
        return total, {"loss": total, "logits": counted.logits[-1], "per_step": torch.stack(counted.losses)}


META, ITERATE = "meta:", "iterate:"


def query_gradients(
    problem: InnerProblem,
    meta: Params,
    params: Params,
    support: Examples,
    query: Examples,
    taken: int,
    weight: float,
    autodiff: Autodiff,
) -> tuple[Params, Params, Params]:
    """Return the gradients of the weighted query loss with respect to ``meta`` and to the iterate ``params``, and outputs.

    The iterate is that after ``taken`` inner steps.

    The outputs are the unweighted ``loss`` and the ``logits``.
    """
    both = {META + name: value for name, value in meta.items()} | {ITERATE + name: value for name, value in params.items()}

    def loss(at: Params) -> tuple[Tensor, Params]:
        value, logits = problem.task.query_loss(part(at, META), part(at, ITERATE), support, query, taken)
        return weight * value, {"loss": value, "logits": logits}

    gradients, outputs = autodiff.value_and_gradient(loss, both)
    return part(gradients, META), part(gradients, ITERATE), outputs


def part(both: Params, prefix: str) -> Params:
    """Return the entries whose name starts with ``prefix``, the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in both.items() if name.startswith(prefix)}


class Unrolled(MetaGradient):
    """Backpropagation through all inner steps at once (MAML, Finn et al. 2017, equation 1).

    It is exact. It keeps every step's activations, so memory grows with the steps; that of :class:`ReverseSweep` does not.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_gradient(EpisodeLoss(problem, exact_from=0), meta, tasks)


class FirstOrder(MetaGradient):
    """The gradient with inner gradients treated as constants (FOMAML, Finn et al. 2017, section 5.2).

    Parameters of the rule (learned rates) still get their exact gradient, given those constants.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_gradient(EpisodeLoss(problem, exact_from=problem.steps), meta, tasks)


@dataclass(frozen=True)
class TaskEvaluation:
    """The objective's query loss of one task, and a gradient of zero."""

    problem: InnerProblem

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Return zero, and its entry of the outputs of :meth:`MetaGradient.mean`."""
        with torch.no_grad():
            _, outputs = EpisodeLoss(self.problem, exact_from=self.problem.steps)(meta, support, query, autodiff)
            return {name: torch.zeros_like(value) for name, value in meta.items()}, outputs


class Nothing(MetaGradient):
    """No meta-learning: the baseline of learning from scratch, and of optimisers tuned by hand.

    The outer optimiser gets a gradient of zero. It must not move the parameters then, so it must have no weight decay.
    """

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskEvaluation(problem), meta, tasks)


@dataclass(frozen=True)
class TaskDisplacement:
    """Start minus adapted parameters of one task, or its unit steps; zero for parameters that are not adapted."""

    problem: InnerProblem
    keep_state: bool = False
    unit_steps: bool = False

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Return the task's displacement, and its entry of the outputs of :meth:`MetaGradient.mean`."""
        problem, steps = self.problem, self.problem.steps
        with torch.no_grad():
            path = list(problem.walk(meta, support, range(steps), autodiff, exact_from=steps))
            gradients = {name: torch.zeros_like(value) for name, value in meta.items()}
            for name, start in path[0][0].items():
                if start is meta.get(MODEL + name):  # a parameter that does not start at its learned value has no displacement
                    gradients[MODEL + name] = self._lengths(path)[name] if self.unit_steps else start - path[-1][0][name]
            loss, logits = problem.task.query_loss(meta, path[-1][0], support, query, steps)
            state = {STATE + name: value for name, value in path[-1][1].items()} if self.keep_state else {}
        return gradients, {"loss": loss, "logits": logits, "per_step": loss[None], **state}

    @staticmethod
    def _lengths(path: Sequence[tuple[Params, Params]]) -> Params:
        """Sum the steps of a path backwards, each scaled to length one over all parameters."""
        total = {name: torch.zeros_like(value) for name, value in path[0][0].items()}
        for (before, _), (after, _) in pairwise(path):
            steps = {name: value - after[name] for name, value in before.items()}
            length = torch.stack([(step**2).sum() for step in steps.values()]).sum().sqrt()
            total = {name: value + steps[name] / (length + _SHORTEST) for name, value in total.items()}
        return total


class Displacement(MetaGradient):
    """The outer loop moves the start towards where tasks end (Reptile, Nichol et al. 2018, equation 1 with a batch of tasks).

    Only the start is learned, from the support set alone: a rule's meta-parameters, and a head that does not start from learned
    values, have no displacement. With outer SGD at rate e this is the paper's update with step size e.

    Args:
        keep_state: whether the rule's state, such as Adam's moments, goes on from one outer step to the next and is not reset
            (section 6.1); at validation and test, tasks start from the last one. The authors run the tasks of a meta-batch one
            after the other; here they run side by side, and the mean of their last states goes on.
        unit_steps: whether each step counts as if its length, over all adapted parameters, were one: the gradient of the
            trajectory's length with its later points held constant (Leap, Flennerhag et al. 2019, with d = 1 and, as in the
            code of WarpGrad, without the change of the loss).
    """

    def __init__(self, keep_state: bool = False, unit_steps: bool = False) -> None:
        self.keep_state = keep_state
        self.unit_steps = unit_steps

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`.

        Raises:
            UserError: the rule has meta-parameters, or the objective counts more than the last step.
        """
        if any(True for _ in problem.rule.parameters()):
            raise UserError(
                "algorithm.meta_gradient=displacement cannot learn the rule's parameters; take an algorithm/rule without "
                "parameters, such as gradient_descent"
            )
        if problem.weights[-1] != 1.0:
            raise UserError("algorithm.meta_gradient=displacement uses no query loss; take algorithm/objective=last_step")

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskDisplacement(problem, self.keep_state, self.unit_steps), meta, tasks)
