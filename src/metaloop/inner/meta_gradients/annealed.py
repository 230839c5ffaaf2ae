"""A change from one meta-gradient to another during meta-training."""

from collections.abc import Hashable

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient
from metaloop.inner.problem import InnerProblem
from metaloop.types import Params, Tasks


class Annealed(MetaGradient):
    """Derivative-order annealing (MAML++, Antoniou et al. 2019, section 4): cheap and stable first, exact later.

    Args:
        before: meta-gradient of the outer steps before ``until``; first order in the paper.
        after: meta-gradient from outer step ``until`` on; unrolled in the paper.
        until: number of outer steps; the paper changes after 50 epochs of 500 steps.
    """

    def __init__(self, before: MetaGradient, after: MetaGradient, until: int) -> None:
        if until < 0:
            raise UserError(f"algorithm.meta_gradient.until={until}: outer steps, at least 0")
        self.before = before
        self.after = after
        self.until = until

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; both meta-gradients must be allowed."""
        self.before.check(problem)
        self.after.check(problem)

    def phase(self, outer_step: int) -> Hashable:
        """See :meth:`MetaGradient.phase`: which of the two it is."""
        return outer_step < self.until, (self.before if outer_step < self.until else self.after).phase(outer_step)

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        current = self.before if problem.outer_step < self.until else self.after
        return current.mean(problem, meta, tasks, over_tasks)
