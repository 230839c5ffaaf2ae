"""A meta-gradient whose start is learned by one member and everything else by another."""

from collections.abc import Hashable

import torch

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.meta_gradient import Displacement, MetaGradient
from metaloop.inner.problem import MODEL, InnerProblem
from metaloop.types import Params, Tasks


class ByPart(MetaGradient):
    """Learns the start by one meta-gradient and all other meta-parameters by another, from the same tasks.

    WarpGrad (Flennerhag et al. 2020, equations 9 to 11) is one choice of the two: warp layers descend the query loss after one
    step from each point of the inner trajectory, the points being constants (windows of one step, with
    ``algorithm/objective=weighted_sum``), and the start descends Leap's length of the trajectory. Without ``second_order`` in
    the windows it is the approximation of equation 11.

    Args:
        start: for adapted parameters that start at a learned value.
        rest: for all others, such as warp layers and a rule's parameters; its losses are those that are reported.
    """

    def __init__(self, start: MetaGradient, rest: MetaGradient) -> None:
        self.start = start
        self.rest = rest

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; a displacement needs to fit neither rule nor objective, which the rest learns."""
        self.rest.check(problem)
        if not isinstance(self.start, Displacement):
            self.start.check(problem)

    def phase(self, outer_step: int) -> Hashable:
        """See :meth:`MetaGradient.phase`."""
        return self.start.phase(outer_step), self.rest.phase(outer_step)

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        gradients, outputs = self.rest.mean(problem, meta, tasks, over_tasks)
        starts, _ = self.start.mean(problem, meta, tasks, over_tasks)
        learned = _learned_starts(problem, meta, tasks)
        return {name: starts[name] if name in learned else value for name, value in gradients.items()}, outputs


def _learned_starts(problem: InnerProblem, meta: Params, tasks: Tasks) -> frozenset[str]:
    """Return the names of the meta-parameters at which adapted parameters start."""
    with torch.no_grad():
        start = problem.task.start(meta, tasks.support.map(lambda value: value[0]))
    return frozenset(MODEL + name for name, value in start.items() if value is meta.get(MODEL + name))
