"""Episodes of single tasks out of what was watched, with what can be drawn of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaloop.control.environments.drawings import Corner, Drawing, Map
from metaloop.control.environments.environment import Environment
from metaloop.control.watching import WatchedEpisode


@dataclass(frozen=True)
class ShownMap:
    """A map of the plane with the way of one task's player.

    Attributes:
        low: the lower left corner.
        high: the upper right corner.
        places: of the player before each step and after the last.
        marks: places of whatever else is there, by name.
    """

    low: Corner
    high: Corner
    places: list[Corner]
    marks: Mapping[str, Corner]


@dataclass(frozen=True)
class ShownEpisode:
    """An episode of one task.

    Attributes:
        rewards: of each step until its end.
        actions: of each step; a number, or several.
        drawings: of the states before each step and after the last; empty if the environments are not drawn.
        map: the way on a map; None if the environments have none.
        beliefs: means and standard deviations (entries each) of what the policy believed of the task before each step and after
            the last; empty if it has no posterior.
    """

    rewards: list[float]
    actions: list[Any]
    drawings: list[Drawing]
    map: ShownMap | None
    beliefs: list[tuple[list[float], list[float]]]


def shown(environment: Environment, episode: WatchedEpisode, row: int) -> ShownEpisode:
    """The episode of the task in this row of the stacked tasks, until its end."""
    real, rewards, actions = (
        torch.stack([each[row] for each in part]) for part in (episode.real, episode.rewards, episode.actions)
    )
    length = int(real.sum())
    states = episode.states[: length + 1]  # as if each were that of another task
    state = {name: torch.stack([each[name][row] for each in states]) for name in states[0]}
    parameters = {name: value[row].expand(len(states), *value.shape[1:]) for name, value in episode.parameters.items()}
    return ShownEpisode(
        rewards=rewards[:length].tolist(),
        actions=actions[:length].tolist(),
        drawings=environment.drawings(parameters, state) or [],
        map=_map(environment.map(parameters, state)),
        beliefs=[(each.mean[row].tolist(), each.deviation[row].tolist()) for each in episode.beliefs[: length + 1]],
    )


def _map(each: Map | None) -> ShownMap | None:
    if each is None:
        return None
    marks = {name: _corner(place[0]) for name, place in each.marks.items()}
    return ShownMap(each.low, each.high, [_corner(place) for place in each.place], marks)


def _corner(place: Tensor) -> Corner:
    first, second = place.tolist()
    return first, second
