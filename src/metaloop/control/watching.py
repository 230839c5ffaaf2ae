"""What is played in environments, kept state by state, so that it can be shown."""

from dataclasses import dataclass, field

from torch import Tensor

from metaloop.types import Params


@dataclass(frozen=True)
class Belief:
    """What a policy believes of the tasks: a posterior with these moments.

    Attributes:
        mean: (tasks, entries).
        deviation: (tasks, entries), standard deviations.
    """

    mean: Tensor
    deviation: Tensor


@dataclass
class WatchedEpisode:
    """An episode of stacked tasks.

    Attributes:
        parameters: (tasks, ...) each, of the tasks.
        states: the states before each step, and after the last.
        actions: (tasks,) or (tasks, count) of each step.
        rewards: (tasks,) of each step; 0 after the end of an episode.
        real: (tasks,) bool of each step, False after the end of an episode.
        beliefs: what the policy believed of the tasks before each step, and after the last; empty if it has no posterior.
    """

    parameters: Params
    states: list[Params]
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[Tensor] = field(default_factory=list)
    real: list[Tensor] = field(default_factory=list)
    beliefs: list[Belief] = field(default_factory=list)


class Watch:
    """Keeps the episodes that are played in a family of environments whose ``watch`` it is, in their order."""

    def __init__(self) -> None:
        self.episodes: list[WatchedEpisode] = []

    def begin(self, parameters: Params, state: Params) -> None:
        """Note that an episode begins in these states."""
        self.episodes.append(WatchedEpisode(parameters, [state]))

    def step(self, actions: Tensor, reward: Tensor, real: Tensor, state: Params) -> None:
        """Note a step, and the states after it."""
        episode = self.episodes[-1]
        episode.actions.append(actions)
        episode.rewards.append(reward)
        episode.real.append(real)
        episode.states.append(state)

    def believe(self, belief: Belief | None) -> None:
        """Note what the policy believes of the tasks in these states."""
        if belief is not None:
            self.episodes[-1].beliefs.append(belief)
