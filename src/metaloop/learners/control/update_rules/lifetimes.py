"""Lifetimes: agents that play and are updated again and again in stacked tasks, from a random start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from metaloop.control.distributions import Categorical
from metaloop.control.environments.environment import World
from metaloop.errors import UserError
from metaloop.learners.control.playing import numbers_of, world_of
from metaloop.learners.control.policy_gradient.stacked import MOST_EPISODES, QUERIES, StackedPolicy, play_episodes
from metaloop.learners.control.update_rules.streams import Streams, play_streams
from metaloop.learners.gradient.adaptation import curve_steps
from metaloop.learners.learner import Answer, Predictor
from metaloop.problems.control import Actions
from metaloop.types import Examples, Inputs, Params

MOST_UPDATES = QUERIES  # phases of a lifetime; see play_episodes
Life = TypeVar("Life")
Logits = Callable[[Params, Tensor], Tensor]  # of agents with these parameters at observations (tasks, examples, *input)


@dataclass(frozen=True)
class Lifetimes:
    """What agents do in the tasks of a batch.

    Attributes:
        world: the environments.
        numbers: (tasks,) int64, numbers of the tasks.
        actions: actions that the agents were made for.
        logits: of the agents' actions.
        streams: streams of each task between two updates.
        episodes: episodes of a stream.
    """

    world: World
    numbers: Tensor
    actions: Actions
    logits: Logits
    streams: int
    episodes: int

    def policy(self, params: Params) -> StackedPolicy:
        """The agents with these parameters."""
        return StackedPolicy(lambda x: self.logits(params, x), Categorical(), self.actions, len(self.numbers))

    def play(self, params: Params, update: int) -> Streams:
        """Play the streams of update number ``update``."""
        return play_streams(self.world, self.numbers, self.policy(params), update, self.streams, self.episodes)

    def returns(self, params: Params, episodes: int) -> Tensor:
        """Returns (tasks, episodes) of episodes from which nothing is learned."""
        rollouts = play_episodes(self.world, self.numbers, self.policy(params), QUERIES, episodes)
        return rollouts.returns.view(len(self.numbers), episodes)


def predictor_of(
    lifetimes: Lifetimes,
    start: Life,
    update: Callable[[Life, Streams], Life],
    updates: int,
    params_of: Callable[[Life], Params],
) -> Predictor:
    """Let agents live; the queries are further episodes, and the answers their returns after so many updates.

    Args:
        lifetimes: what they do.
        start: all of them at the start.
        update: returns them after an update by what they have just played.
        updates: number of updates.
        params_of: the parameters with which they act.
    """
    points, life = curve_steps(updates), start
    kept = [params_of(life)]
    for number in range(updates):
        life = update(life, lifetimes.play(params_of(life), number))
        if number + 1 in points:
            kept.append(params_of(life))

    def answer(params: Params) -> Answer:
        def returns(x: Inputs, mask: Tensor | None) -> Tensor:
            assert isinstance(x, Tensor)
            return lifetimes.returns(params, x.shape[1])

        return returns

    return Predictor([answer(params) for params in kept], points)


def lifetimes_of(support: Examples, actions: Actions, logits: Any, streams: int, episodes: int) -> Lifetimes:
    """The lifetimes in the tasks of a support set; ``logits`` takes parameters, the environment and observations."""
    world = world_of(support)

    def of_actions(params: Params, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = logits(params, world.environment, x)
            return found

    return Lifetimes(world, numbers_of(support), actions, of_actions, streams, episodes)


def check_lifetimes(actions: Actions, **counts: int | None) -> None:
    """Raise a UserError unless actions are discrete and these settings are at least 1 and not too many."""
    if actions.continuous:
        raise UserError("algorithm: the update rule is for discrete actions, but those of this data set are vectors of numbers")
    most = {"updates": MOST_UPDATES, "eval_updates": MOST_UPDATES, "streams": MOST_EPISODES, "outer_episodes": MOST_EPISODES}
    for name, value in counts.items():
        if value is not None and not 1 <= value <= most.get(name, value):
            raise UserError(f"algorithm.{name}={value}: at least 1" + (f" and at most {most[name]}" if name in most else ""))


def refuse_unlabelled(unlabelled: Inputs | None) -> None:
    """Raise a UserError if there are unlabelled examples."""
    if unlabelled is not None:
        raise UserError("agents that act do not use unlabelled examples; take episode.unlabelled=0")
