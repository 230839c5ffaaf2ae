"""The episodes of a meta-batch, on which inner steps can be taken again, from other meta-parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from metaloop.inner.problem import InnerProblem
from metaloop.learners.control.policy_gradient.played import PlayedEpisodes
from metaloop.learners.control.policy_gradient.policy_task import PolicyTask, outputs_of_tasks, start_of_tasks, step_of_tasks
from metaloop.types import Params


@dataclass(frozen=True)
class Visit:
    """A policy on the episodes of the policy that it was when they were played.

    Attributes:
        weight: weight in the outer loss.
        log_ratio: (tasks, examples), see :meth:`PolicyTask.log_ratio`.
        outputs: (tasks, examples, outputs).
        experience: the episodes.
    """

    weight: float
    log_ratio: Tensor
    outputs: Tensor
    experience: PlayedEpisodes


@dataclass(frozen=True)
class Replay:
    """The episodes of a meta-batch; what they say is a function of the meta-parameters.

    Attributes:
        problem: the inner problem, of a :class:`PolicyTask`.
        exact_from: first inner step whose policy gradient is differentiated.
        inner: the episodes of each inner step.
        outer: the episodes after those numbers of inner steps that the objective counts.
    """

    problem: InnerProblem
    exact_from: int
    inner: Sequence[PlayedEpisodes]
    outer: Mapping[int, PlayedEpisodes]

    @property
    def task(self) -> PolicyTask:
        """The task's start and losses."""
        assert isinstance(self.problem.task, PolicyTask)
        return self.problem.task

    def iterates(self, meta: Params) -> list[Params]:
        """Return the adapted parameters before the first and after each inner step, (tasks, ...) each."""
        tasks = len(next(iter(self.outer.values())).advantages)
        at = start_of_tasks(self.problem, meta, tasks)
        path = [at[0]]
        for step, experience in enumerate(self.inner):
            at = step_of_tasks(self.problem, meta, at, experience, step, second_order=step >= self.exact_from)
            path.append(at[0])
        return path

    def after(self, meta: Params, iterates: Sequence[Params]) -> list[Visit]:
        """The adapted policies on the episodes that the objective counts."""
        weights = self.problem.weights
        return [self._visit(meta, iterates[taken], part, weights[taken]) for taken, part in self.outer.items()]

    def before(self, meta: Params, iterates: Sequence[Params]) -> list[Visit]:
        """The policies on the episodes of the inner step that each of them takes."""
        share = 1 / max(len(self.inner), 1)
        return [self._visit(meta, params, part, share) for params, part in zip(iterates, self.inner, strict=False)]

    def _visit(self, meta: Params, params: Params, experience: PlayedEpisodes, weight: float) -> Visit:
        assert isinstance(experience.x, Tensor)
        outputs = outputs_of_tasks(self.task, meta, params, experience.x)
        return Visit(weight, self.task.log_ratio(outputs, experience), outputs, experience)

    def divergence(self, visit: Visit) -> Tensor:
        """Mean divergence (tasks,) of the policy from the one that played, in nats a step."""
        mask = visit.experience.mask
        assert mask is not None
        each = self.task.distribution.divergence(visit.experience.outputs, visit.outputs)
        return (each * mask).sum(1) / mask.sum(1)
