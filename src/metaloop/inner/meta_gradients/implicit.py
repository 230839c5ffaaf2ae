"""The implicit meta-gradient: that of the inner loss's minimum, independent of the path to it."""

from dataclasses import dataclass

import torch

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff, detached
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.linear_solver import LinearSolver
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient, query_gradients
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params, Tasks


@dataclass(frozen=True)
class TaskImplicit:
    """One task's implicit meta-gradient. It keeps only the last iterate, so memory does not grow with the inner steps."""

    problem: InnerProblem
    solver: LinearSolver

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Return the task's meta-gradient and its entry of the outputs of :meth:`MetaGradient.mean`."""
        problem, steps = self.problem, self.problem.steps
        meta = detached(meta)
        with torch.no_grad():
            for end in problem.walk(meta, support, range(steps), autodiff, exact_from=steps):
                params = detached(end[0])

        def inner_gradient(at: Params, params: Params) -> Params:
            gradients, _ = autodiff.gradient(lambda p: problem.inner_loss(at, p, support, steps - 1), params, second_order=True)
            return gradients

        direct, slope, outputs = query_gradients(problem, meta, params, support, query, steps, 1.0, autodiff)
        # The Hessian is symmetric, so pulling a vector back through the gradient multiplies by it.
        response = self.solver.solve(autodiff.linearized(lambda at: inner_gradient(meta, at), params), slope)
        indirect = autodiff.linearized(lambda at: inner_gradient(at, params), meta)(response)
        gradients = {name: value - indirect[name] for name, value in direct.items()}
        return gradients, {"loss": outputs["loss"], "logits": outputs["logits"], "per_step": outputs["loss"][None]}


class Implicit(MetaGradient):
    """The derivative of the inner loss's minimiser by the implicit function theorem (iMAML, Rajeswaran et al. 2019).

    With the inner loss ``G(meta, p)``, the support loss plus the proximal term, and its minimiser p*, the meta-gradient of the
    query loss L is ``dL/dmeta - u^T d/dmeta grad_p G`` with ``u`` from ``(d^2 G / dp^2) u = dL/dp``, all at p*; for the
    adapted parameters' start that is ``proximal * u`` (equations 6 and 7 of the paper, whose ``lambda`` is our ``proximal``).
    Every other meta-parameter in G, such as features that do not adapt, is learned as well.

    It is exact if the inner loop has reached the minimum and the system is solved; otherwise it is an approximation. A term
    that the rule adds to G's gradient itself (weight decay) is not part of G and moves the last iterate away from p*. If the
    steps see different losses (``algorithm.inner_batch``, augmentation), the last step's loss is used as G.

    Args:
        solver: solver of the linear system.
    """

    def __init__(self, solver: LinearSolver) -> None:
        self.solver = solver

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`.

        Raises:
            UserError: the rule has meta-parameters, there is no proximal term, or the objective counts more than the last step.
        """
        if any(True for _ in problem.rule.parameters()):
            raise UserError(
                "algorithm.meta_gradient=implicit cannot learn the rule's parameters, because the minimum does not depend on "
                "the path to it; take an algorithm/rule without parameters, such as gradient_descent"
            )
        if not problem.proximal > 0:
            raise UserError(
                f"algorithm.proximal={problem.proximal}: algorithm.meta_gradient=implicit needs a number above 0; "
                f"otherwise the minimum does not depend on the start, and need not be unique"
            )
        if problem.weights[-1] != 1.0:
            raise UserError(
                "algorithm.meta_gradient=implicit differentiates the minimum, not the steps to it; "
                "take algorithm/objective=last_step"
            )

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskImplicit(problem, self.solver), meta, tasks)
