"""Episodes that a policy has played, as examples from which it learns."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.control.environments.environment import World
from metaloop.learners.control.advantages import generalized_advantages
from metaloop.learners.control.policy_gradient.baselines import ReturnBaseline
from metaloop.learners.control.policy_gradient.stacked import StackedPolicy, play_episodes
from metaloop.types import Examples, pytree

_SMALLEST = 1e-8  # added to the deviation of advantages


@pytree
@dataclass(frozen=True, kw_only=True)
class PlayedEpisodes(Examples):
    """Episodes of stacked tasks, or of one task without the leading axis. Examples are their steps, episode by episode.

    ``x`` are observations, ``y`` actions; ``mask`` is False for steps after the end of an episode.

    Attributes:
        advantages: (tasks, examples), how much better than expected the return from a step on was; 0 after the end.
        outputs: (tasks, examples, outputs), what the policy's network answered when it acted.
        log_probabilities: (tasks, examples) of the actions, at these outputs.
        returns: (tasks, episodes), undiscounted.
        episodes: number of episodes of a task.
    """

    advantages: Tensor
    outputs: Tensor
    log_probabilities: Tensor
    returns: Tensor
    episodes: int


@dataclass(frozen=True)
class AdvantageEstimator:
    """How advantages are estimated.

    Attributes:
        baseline: predicts the reward that is left.
        discount: how much a reward counts that comes a step later. As usual, the step at which an action is taken is not
            discounted.
        trace: lambda of the generalized advantages; 1 compares the whole return with the baseline.
        standardize: whether the advantages of each task are shifted and scaled to mean 0 and deviation 1.
    """

    baseline: ReturnBaseline
    discount: float
    trace: float
    standardize: bool

    def advantages(self, observations: Tensor, rewards: Tensor, real: Tensor) -> Tensor:
        """Estimate the advantages (tasks, episodes, steps).

        Args:
            observations: (tasks, episodes, steps, *input).
            rewards: (tasks, episodes, steps).
            real: (tasks, episodes, steps) bool.
        """
        first, exists = (value.flatten(0, 1).T for value in (rewards, real))

        def estimated(values: Tensor, trace: float) -> Tensor:
            flat = generalized_advantages(first, values.flatten(0, 1).T, exists, self.discount, trace)
            return flat.T.reshape(rewards.shape)

        left = estimated(torch.zeros_like(rewards), 1.0)
        advantages = estimated(self.baseline.values(observations, left, real), self.trace)
        return (self._standard(advantages, real) if self.standardize else advantages) * real

    @staticmethod
    def _standard(advantages: Tensor, real: Tensor) -> Tensor:
        count = real.sum((1, 2), keepdim=True)
        shifted = (advantages - (advantages * real).sum((1, 2), keepdim=True) / count) * real
        deviation = ((shifted**2).sum((1, 2), keepdim=True) / count).sqrt()
        return shifted / (deviation + _SMALLEST)


def gathered(
    world: World, numbers: Tensor, policy: StackedPolicy, phase: int, episodes: int, estimator: AdvantageEstimator
) -> PlayedEpisodes:
    """Play episodes, see :func:`play_episodes`, and prepare them for learning."""
    rollouts = play_episodes(world, numbers, policy, phase, episodes)
    tasks = len(numbers)

    def by_task(value: Tensor) -> Tensor:
        """(steps, tasks * episodes, ...) to (tasks, episodes, steps, ...)."""
        return value.view(len(value), tasks, episodes, *value.shape[2:]).movedim(0, 2)

    observations, rewards, real = (by_task(v) for v in (rollouts.observations, rollouts.rewards, rollouts.real))
    x, actions = observations.flatten(1, 2), by_task(rollouts.actions).flatten(1, 2)
    with torch.no_grad():
        outputs = policy.outputs(x)
        log_probabilities = policy.distribution.log_probability(outputs, actions)
    return PlayedEpisodes(
        x=x,
        y=actions,
        mask=real.flatten(1),
        advantages=estimator.advantages(observations, rewards, real).flatten(1),
        outputs=outputs,
        log_probabilities=log_probabilities,
        returns=rollouts.returns.view(tasks, episodes),
        episodes=episodes,
    )
