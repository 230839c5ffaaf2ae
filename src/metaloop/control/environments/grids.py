"""Dark grids: a square room whose goals are invisible (Laskin et al. 2022, section 4). A policy sees its own place only."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.control.environments.drawings import DOOR, GOAL, KEY, PLAYER, Drawing, drawings
from metaloop.control.environments.environment import Environment, Step, at_least, best_played
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import Params

_MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # stay, up, down, left, right
_HELD_OUT = Stream(0, "held-out cells")
_STAY, _UP, _DOWN, _LEFT, _RIGHT = range(5)


class Grid(Environment):
    """A room of ``size`` x ``size`` cells. An episode begins in the middle; a move against a wall stays.

    Args:
        size: cells of a side.
        horizon: most steps of an episode.
        title: name of the family in words.
    """

    def __init__(self, size: int, horizon: int, title: str) -> None:
        at_least({"size": (size, 2), "horizon": (horizon, 1)})
        super().__init__(Actions(len(_MOVES)), horizon, (2 * size,), title)
        self.size = size
        self.places = size**2

    def cells(self, stream: Stream, numbers: Tensor, purpose: str) -> Tensor:
        """Draw a cell for each task, (tasks, 2) int64 row and column."""
        return stream.integers(numbers, 2, purpose, self.size)

    def middle(self, like: Tensor) -> Tensor:
        """The cell in the middle for each task, as ``like`` (tasks, 2)."""
        return torch.full_like(like, self.size // 2)

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`; row and column, each one-hot."""
        return F.one_hot(state["place"], self.size).float().flatten(1)

    def place(self, observation: Tensor) -> Tensor:
        """See :meth:`Environment.place`; the cell."""
        return observation[:, : self.size].argmax(-1) * self.size + observation[:, self.size :].argmax(-1)

    def moved(self, place: Tensor, actions: Tensor) -> Tensor:
        """The cells (tasks, 2) after the actions (tasks,)."""
        return (place + torch.tensor(_MOVES, device=place.device)[actions]).clamp(0, self.size - 1)

    def best_return(self, parameters: Params) -> Tensor:
        """See :meth:`Environment.best_return`."""
        return best_played(self, parameters)


def towards(place: Tensor, goal: Tensor) -> Tensor:
    """The actions (tasks,) of a shortest path from cells (tasks, 2) to others: along the longer way first, or to the row."""
    (down, right) = (goal - place).unbind(1)
    across = torch.where(right > 0, _RIGHT, torch.where(right < 0, _LEFT, _STAY))
    along = torch.where(down > 0, _DOWN, torch.where(down < 0, _UP, _STAY))
    return torch.where(right.abs() > down.abs(), across, along)


class DarkRoom(Grid):
    """Each step that ends on the goal pays 1. An episode lasts ``horizon`` steps.

    Args:
        size: cells of a side.
        horizon: steps of an episode.
        held_out: number of cells in which only goals of meta-test lie, and of others in which only goals of meta-validation
            lie. Which cells these are depends on the size alone. With 0, goals of all splits lie in all cells.
    """

    def __init__(self, size: int, horizon: int, held_out: int = 0) -> None:
        super().__init__(size, horizon, f"dark room {size}x{size}")
        at_least({"held_out": (held_out, 0)})
        if 2 * held_out >= size**2:
            raise UserError(
                f"dataset.environment.held_out={held_out}: so many cells each for meta-test and meta-validation leave none of "
                f"{size**2} for meta-training; at most {(size**2 - 1) // 2}"
            )
        self.held_out = held_out

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``goal`` (tasks, 2)."""
        if not self.held_out:
            return {"goal": self.cells(stream, numbers, "goals")}
        goals = self.goals(stream.split).to(numbers.device)
        return {"goal": goals[stream.integers(numbers, 1, "goals", len(goals))[:, 0]]}

    def goals(self, split: str) -> Tensor:
        """The cells (n, 2) in which goals of a split lie, in the order of a draw that is the same for all runs."""
        count = self.size**2
        drawn = _HELD_OUT.without_replacement(torch.zeros(1, dtype=torch.int64), torch.tensor([[count]]), count, "cells")[0, 0]
        first, last = {"test": (0, 1), "validation": (1, 2)}.get(split, (2, None))
        if self.held_out:
            drawn = drawn[first * self.held_out : None if last is None else last * self.held_out]
        return torch.stack([drawn // self.size, drawn % self.size], 1)

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        return {"place": self.middle(parameters["goal"])}

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        place = self.moved(state["place"], actions)
        return Step({"place": place}, (place == parameters["goal"]).all(1).float())

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """See :meth:`Environment.best_actions`."""
        return towards(state["place"], parameters["goal"])

    def drawings(self, parameters: Params, state: Params) -> list[Drawing]:
        """See :meth:`Environment.drawings`."""
        places = ((GOAL, parameters["goal"]), (PLAYER, state["place"]))
        return drawings(self.size, self.size, [(symbol, place[:, 0], place[:, 1]) for symbol, place in places])


class KeyToDoor(Grid):
    """The key's cell pays 1 once; then the door's cell pays 1 and ends the episode.

    Args:
        size: cells of a side.
        horizon: most steps of an episode.
    """

    def __init__(self, size: int, horizon: int) -> None:
        super().__init__(size, horizon, f"dark key to door {size}x{size}")

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``key`` and ``door`` (tasks, 2)."""
        return {name: self.cells(stream, numbers, name) for name in ("key", "door")}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        place = self.middle(parameters["key"])
        return {"place": place, "has_key": torch.zeros_like(place[:, 0]).bool(), "time": torch.zeros_like(place[:, 0])}

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        place, time = self.moved(state["place"], actions), state["time"] + 1
        at_key, at_door = ((place == parameters[name]).all(1) for name in ("key", "door"))
        taken, opened = at_key & ~state["has_key"], at_door & state["has_key"]
        new = {"place": place, "has_key": state["has_key"] | taken, "time": time}
        return Step(new, taken.float() + opened.float(), opened | (time == self.horizon))

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """See :meth:`Environment.best_actions`."""
        goal = torch.where(state["has_key"][:, None], parameters["door"], parameters["key"])
        return towards(state["place"], goal)

    def drawings(self, parameters: Params, state: Params) -> list[Drawing]:
        """See :meth:`Environment.drawings`; a key that is taken is not drawn."""
        key = torch.where(state["has_key"][:, None], -1, parameters["key"])
        places = ((DOOR, parameters["door"]), (KEY, key), (PLAYER, state["place"]))
        return drawings(self.size, self.size, [(symbol, place[:, 0], place[:, 1]) for symbol, place in places])
