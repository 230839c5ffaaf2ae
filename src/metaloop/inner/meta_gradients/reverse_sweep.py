"""The exact meta-gradient by a reverse sweep, which keeps the graph of one inner step at a time."""

from dataclasses import dataclass

import torch

from metaloop.inner.autodiff import Autodiff, Step, detached
from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.meta_gradients.meta_gradient import MetaGradient, query_gradients
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params, Tasks


def _add(left: Params, right: Params) -> Params:
    return {name: value + right[name] for name, value in left.items()}


def _zeros(like: Params) -> Params:
    return {name: torch.zeros_like(value) for name, value in like.items()}


@dataclass(frozen=True)
class TaskSweep:
    """One task's meta-gradient: the steps forward without a graph, then backward with one step's graph at a time.

    With ``p[t+1] = step(meta, p[t])`` the adjoint obeys ``u[t] = (d p[t+1] / d p[t])^T u[t+1] + w[t] dL(p[t])/dp``, and the
    meta-gradient sums ``(d p[t+1] / d meta)^T u[t+1]`` over the steps (reverse mode as in Maclaurin et al. 2015, algorithm 2,
    but with every iterate stored instead of recomputed backwards).
    """

    problem: InnerProblem

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        """Return the task's meta-gradient and its entry of the outputs of :meth:`MetaGradient.mean`."""
        problem, steps = self.problem, self.problem.horizon
        weights = problem.weights
        path = self._forward(meta, support, autodiff)
        total, adjoint, state_adjoint = _zeros(meta), _zeros(path[-1][0]), _zeros(path[-1][1])
        query_outputs: list[Params] = []
        for t in range(steps, -1, -1):
            params = path[t][0]
            if weights[t]:
                from_query, gradient, outputs = query_gradients(problem, meta, params, support, query, t, weights[t], autodiff)
                total, adjoint = _add(total, from_query), _add(adjoint, gradient)
                query_outputs.insert(0, outputs)
            if t:
                before = path[t - 1]
                from_step, adjoint, state_adjoint = autodiff.pull_back(
                    self._step(support, t - 1, autodiff), (meta, *before), (adjoint, state_adjoint)
                )
                total = _add(total, from_step)
        from_start, _, _ = autodiff.pull_back(
            lambda at, p, s: (problem.task.start(at, support), {}), (meta, {}, {}), (adjoint, {})
        )
        per_step = torch.stack([outputs["loss"] for outputs in query_outputs])
        loss = (per_step * torch.tensor([w for w in weights if w], device=per_step.device, dtype=per_step.dtype)).sum()
        return _add(total, from_start), {"loss": loss, "logits": query_outputs[-1]["logits"], "per_step": per_step}

    def _forward(self, meta: Params, support: Examples, autodiff: Autodiff) -> list[tuple[Params, Params]]:
        """Return every iterate and rule state, without a graph."""
        problem = self.problem
        with torch.no_grad():
            params = detached(problem.task.start(meta, support))
            path = [(params, problem.first_state(meta, params))]
            for t in range(problem.horizon):
                path.append(problem.step(meta, *path[-1], support, t, autodiff, second_order=False))
        return path

    def _step(self, support: Examples, t: int, autodiff: Autodiff) -> Step:
        return lambda meta, params, state: self.problem.step(meta, params, state, support, t, autodiff, second_order=True)


class ReverseSweep(MetaGradient):
    """The unrolled meta-gradient, swept back through saved iterates in the memory of one step plus the iterates."""

    def check(self, problem: InnerProblem) -> None:
        """See :meth:`MetaGradient.check`; every composition is allowed."""

    def mean(self, problem: InnerProblem, meta: Params, tasks: Tasks, over_tasks: OverTasks) -> tuple[Params, Params]:
        """See :meth:`MetaGradient.mean`."""
        return over_tasks.mean_of_gradients(TaskSweep(problem), meta, tasks)
