"""Streams: what agents play between two updates, several episodes one after the other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.control.environments.environment import World
from metaloop.learners.control.policy_gradient.stacked import StackedPolicy, play_episodes


@dataclass(frozen=True)
class Streams:
    """Streams of stacked tasks, which end with an episode.

    After the end of an episode stands the start of another, as where environments reset themselves; after the last, that of the
    first.

    Attributes:
        observations: (tasks, streams, steps + 1, *input), before each step, and one more.
        actions: (tasks, streams, steps) int64.
        rewards: (tasks, streams, steps), after each action.
        terminal: (tasks, streams, steps) bool, whether an episode ended with the action.
        real: (tasks, streams, steps) bool, False at the end of streams whose episodes ended early.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminal: Tensor
    real: Tensor

    def mean(self, each: Tensor) -> Tensor:
        """Mean (tasks,) of numbers (tasks, streams, steps) over real transitions."""
        return (each * self.real).sum((1, 2)) / self.real.sum((1, 2)).clamp(min=1)


def play_streams(world: World, numbers: Tensor, policy: StackedPolicy, phase: int, streams: int, episodes: int) -> Streams:
    """Let the policies play, those of all tasks at once.

    Args:
        world: environments of the tasks.
        numbers: (tasks,) int64, numbers of the tasks.
        policy: the policies.
        phase: what is played for, see :func:`play_episodes`.
        streams: number of streams of each task.
        episodes: episodes of a stream.
    """
    rollouts = play_episodes(world, numbers, policy, phase, streams, episodes)

    def by_task(value: Tensor) -> Tensor:
        """(steps, tasks * streams, ...) to (tasks, streams, steps, ...)."""
        return value.view(len(value), len(numbers), streams, *value.shape[2:]).movedim(0, 2)

    observations, actions, rewards, done, real = (
        by_task(v) for v in (rollouts.observations, rollouts.actions, rollouts.rewards, rollouts.done, rollouts.real)
    )
    if not bool(real.all()):  # steps in which a stream waited for others go to its end
        order = (~real).long().argsort(dim=-1, stable=True)
        spread = order.view(*order.shape, *[1] * (observations.dim() - 3)).expand_as(observations)
        observations = observations.gather(2, spread)
        actions, rewards, done, real = (value.gather(2, order) for value in (actions, rewards, done, real))
        shown = real.view(*real.shape, *[1] * (observations.dim() - 3))
        observations = torch.where(shown, observations, observations[:, :, :1])
    return Streams(torch.cat([observations, observations[:, :, :1]], 2), actions, rewards, done, real)


def reset_backward(terminal: Tensor, real: Tensor) -> Tensor:
    """Whether a network that reads a stream backward forgets before each step: an episode ended with it, or it is not real."""
    return terminal | ~real
