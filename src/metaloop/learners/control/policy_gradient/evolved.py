"""Evolution strategies for policies that adapt: the meta-gradient from returns alone (ES-MAML, Song et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.control.environments.environment import World
from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.inner.meta_gradients.evolution import EvolutionStrategies, perturbation
from metaloop.inner.problem import InnerProblem
from metaloop.learners.control.policy_gradient.played import AdvantageEstimator, gathered
from metaloop.learners.control.policy_gradient.policy_task import (
    PolicyTask,
    outputs_of_tasks,
    start_of_tasks,
    step_of_tasks,
)
from metaloop.learners.control.policy_gradient.stacked import QUERIES, StackedPolicy, play_episodes
from metaloop.learners.control.policy_gradient.updates import ClippedRatio, OuterUpdate
from metaloop.problems.control import Actions
from metaloop.types import Params


@dataclass(frozen=True)
class Fitness:
    """The return after adaptation in stacked tasks, as a function of meta-parameters of each task's own.

    Attributes:
        problem: the inner problem, of a :class:`PolicyTask`.
        world: environments of the tasks.
        numbers: (tasks,) int64, numbers of the tasks. All random numbers are theirs, so that two calls differ by the
            meta-parameters alone.
        actions: actions of the environments.
        episodes: episodes of each inner step.
        estimator: of the advantages in inner steps.
    """

    problem: InnerProblem
    world: World
    numbers: Tensor
    actions: Actions
    episodes: int
    estimator: AdvantageEstimator

    def __call__(self, meta: Params) -> Tensor:
        """Adapt and play; return the weighted mean return (tasks,) of the episodes that the objective counts.

        Args:
            meta: (tasks, ...) each.
        """
        problem, tasks = self.problem, len(self.numbers)
        at = start_of_tasks(problem, meta, tasks, own_meta=True)
        total = torch.zeros(tasks, device=self.numbers.device)
        for step in range(problem.horizon + 1):
            policy = self._policy(meta, at[0])
            if problem.weights[step]:
                played = play_episodes(self.world, self.numbers, policy, QUERIES, self.world.episodes)
                total = total + problem.weights[step] * played.returns.view(tasks, -1).mean(1)
            if step < problem.horizon:
                experience = gathered(self.world, self.numbers, policy, step, self.episodes, self.estimator)
                after = step_of_tasks(problem, meta, at, experience, step, second_order=False, own_meta=True)
                at = detached(after[0]), detached(after[1])
        return total

    def _policy(self, meta: Params, params: Params) -> StackedPolicy:
        task = self.problem.task
        assert isinstance(task, PolicyTask)

        def outputs(x: Tensor) -> Tensor:
            return outputs_of_tasks(task, meta, params, x, own_meta=True)

        return StackedPolicy(outputs, task.distribution, self.actions, len(self.numbers))


def evolved_gradient(strategy: EvolutionStrategies, fitness: Fitness, meta: Params) -> Params:
    """Estimate the gradient of minus the fitness from pairs of opposite perturbations, the mean over tasks.

    The perturbations of a task are a function of its number, as in :class:`EvolutionStrategies`. Both of a pair meet the same
    random numbers. One pair of all tasks is in memory at a time.

    Args:
        strategy: number of pairs and size of the perturbations.
        fitness: the return after adaptation.
        meta: the meta-parameters, the same for all tasks.
    """
    total = {name: torch.zeros_like(value) for name, value in meta.items()}
    for pair in range(strategy.pairs):
        noise = torch.func.vmap(lambda number, pair=pair: perturbation(number, pair, meta))(fitness.numbers)
        plus, minus = (
            fitness({name: value + sign * strategy.sigma * noise[name] for name, value in meta.items()}) for sign in (1.0, -1.0)
        )
        slope = (minus - plus) / (2 * strategy.sigma)
        for name, value in noise.items():
            total[name] += torch.tensordot(slope.to(value), value, 1) / (len(slope) * strategy.pairs)
    return total


def check_evolved(update: OuterUpdate) -> None:
    """Raise a UserError unless the outer update takes the meta-gradient as it is."""
    if not (isinstance(update, ClippedRatio) and update.clip is None and not update.penalty and update.passes == 1):
        raise UserError(
            "algorithm.meta_gradient=EvolutionStrategies: estimates the meta-gradient from returns, and no other outer update "
            "than algorithm/outer_update=policy_gradient can take it"
        )
