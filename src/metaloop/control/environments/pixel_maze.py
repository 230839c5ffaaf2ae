"""A maze that is seen as pixels, with walls and a goal of its own in each task."""

import torch
from torch import Tensor

from metaloop.control.environments.drawings import FREE, GOAL, PLAYER, WALL, Drawing
from metaloop.control.environments.environment import Environment, Step, at_least
from metaloop.control.environments.mazes import SIDES, distances, edges, mazes, steps
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import Params

_WALL, _PLAYER, _GOAL = range(3)  # channels: red, green, blue


class PixelMaze(Environment):
    """A player walks from the middle of a maze to its goal, which pays 1 and ends the episode; each step costs ``step_cost``.

    A task is a maze and a goal. The walls are a random spanning tree, so that each cell can be reached, from which a share
    ``passages`` of the walls is taken away; the goal is any cell but the middle. The four actions go up, down, to the left and
    to the right; against a wall, the player stays.

    What is observed is a picture (3, 2 * size + 1, 2 * size + 1): cells and the places between them, walls red, the player
    green, the goal blue if ``shows_goal``. With a hidden goal, a policy that remembers it from earlier episodes is faster.

    Args:
        size: cells of a side.
        horizon: most steps of an episode.
        passages: probability that a place between two cells is open in any case, in [0, 1].
        step_cost: what a step costs, at least 0.
        shows_goal: whether the picture has the goal.
    """

    def __init__(self, size: int, horizon: int, passages: float, step_cost: float, shows_goal: bool) -> None:
        at_least({"size": (size, 2), "horizon": (horizon, 1), "step_cost": (step_cost, 0)})
        if not 0 <= passages <= 1:
            raise UserError(f"dataset.environment.passages={passages}: a probability, between 0 and 1")
        side = 2 * size + 1
        super().__init__(Actions(len(SIDES)), horizon, (3, side, side), f"pixel mazes {size}x{size}")
        self.size, self.passages, self.step_cost, self.shows_goal = size, passages, step_cost, shows_goal
        self.middle = size // 2 * size + size // 2

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`.

        ``open`` (tasks, 4, cells) bool, ``goal`` (tasks,), the number of a cell, and ``distance`` (tasks, cells) to it.
        """
        count = len(edges(self.size, numbers.device)[0])
        passages = stream.uniform(numbers, count, "passages") < self.passages
        opened = mazes(stream.uniform(numbers, count, "walls"), self.size, passages)
        goal = stream.integers(numbers, 1, "goals", self.size**2 - 1)[:, 0]
        goal = goal + (goal >= self.middle)
        return {"open": opened, "goal": goal, "distance": distances(opened, goal, self.size)}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        place = torch.full_like(parameters["goal"], self.middle)
        return {"place": place, "time": torch.zeros_like(place)}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`; (tasks, 3, side, side) of zeros and ones."""
        return self._picture(parameters, state, self.shows_goal)

    def drawings(self, parameters: Params, state: Params) -> list[Drawing]:
        """See :meth:`Environment.drawings`; the goal is drawn even if the player does not see it."""
        picture = self._picture(parameters, state, shows_goal=True)
        symbol = picture[:, _WALL] + 2 * picture[:, _GOAL] + 3 * picture[:, _PLAYER]  # a player on the goal hides it
        return [["".join((FREE, WALL, GOAL, PLAYER)[min(3, int(place))] for place in row) for row in task] for task in symbol]

    def _picture(self, parameters: Params, state: Params, shows_goal: bool) -> Tensor:
        picture = torch.zeros(len(state["place"]), *self.input_shape, device=state["place"].device)
        picture[:, _WALL] = 1
        down, right = (parameters["open"][:, side].view(-1, self.size, self.size) for side in (1, 3))
        picture[:, _WALL, 1::2, 1::2] = 0
        picture[:, _WALL, 2:-1:2, 1::2] = 1 - down[:, :-1].float()
        picture[:, _WALL, 1::2, 2:-1:2] = 1 - right[:, :, :-1].float()
        self._paint(picture, _PLAYER, state["place"])
        if shows_goal:
            self._paint(picture, _GOAL, parameters["goal"])
        return picture

    def _paint(self, picture: Tensor, channel: int, cell: Tensor) -> None:
        tasks = torch.arange(len(cell), device=cell.device)
        picture[tasks, channel, 2 * (cell // self.size) + 1, 2 * (cell % self.size) + 1] = 1

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`."""
        tasks, place = torch.arange(len(actions), device=actions.device), state["place"]
        free = parameters["open"][tasks, actions, place]
        new = {"place": torch.where(free, place + steps(self.size, place.device)[actions], place), "time": state["time"] + 1}
        reached = new["place"] == parameters["goal"]
        return Step(new, reached.float() - self.step_cost, reached | (new["time"] == self.horizon))

    def best_return(self, parameters: Params) -> Tensor:
        """See :meth:`Environment.best_return`; along a shortest path, or nowhere if it is too long."""
        length = parameters["distance"][:, self.middle]
        return (length <= self.horizon).float() - self.step_cost * length.clamp(max=self.horizon)

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """See :meth:`Environment.best_actions`; a step of a shortest path."""
        tasks, place = torch.arange(len(state["place"]), device=state["place"].device), state["place"]
        after = (place[:, None] + steps(self.size, place.device)).clamp(0, self.size**2 - 1)
        length = parameters["distance"].gather(1, after)
        return torch.where(parameters["open"][tasks, :, place], length, self.size**2).argmin(1)
