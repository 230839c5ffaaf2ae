"""A point in the plane that must find its goal."""

import math

import torch
from torch import Tensor

from metaloop.control.environments.drawings import GOAL, PLAYER, Drawing, Map, drawings, on_a_map
from metaloop.control.environments.environment import Environment, Step, at_least, best_played
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.problems.control import Actions
from metaloop.types import Params

GOALS = ("square", "half_circle")
_FASTEST = 0.1  # change of each coordinate in a step
_REACHED = 0.01  # distance at which an episode ends
_CORNERS = {"square": ((-0.6, -0.6), (0.6, 0.6)), "half_circle": ((-1.2, -0.9), (1.2, 1.5))}  # of the map that is drawn
_CELLS = 19  # two maps stand beside each other in 80 characters


class PointNavigation(Environment):
    """A point that starts at the origin, moves by its action in each step, and sees where it is, but not its goal.

    With ``goals=square`` (Finn et al. 2017, section 5.3) goals are uniform in [-0.5, 0.5]², and the reward is minus the
    distance to the goal after the move, as in the authors' code; their paper squares it. An episode ends within 0.01 of the
    goal. With ``goals=half_circle`` (Rakelly et al. 2019, section 6.3) goals lie on the half circle of radius 1 above the
    origin, and the reward is 1 minus the distance within ``radius`` of the goal, else 0; an episode lasts ``horizon`` steps.

    Args:
        horizon: most steps of an episode.
        goals: "square" or "half_circle".
        radius: distance within which the half circle's goals pay.
    """

    def __init__(self, horizon: int, goals: str, radius: float) -> None:
        at_least({"horizon": (horizon, 1), "radius": (radius, 0.0)})
        if goals not in GOALS:
            raise UserError(f"dataset.environment.goals={goals!r}: one of {', '.join(GOALS)}")
        title = "dense point navigation" if goals == "square" else "sparse point navigation"
        super().__init__(Actions(2, continuous=True), horizon, (2,), title)
        self.goals = goals
        self.radius = radius

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``goal`` (tasks, 2)."""
        uniform = stream.uniform(numbers, 2, "goals")
        if self.goals == "square":
            return {"goal": (uniform - 0.5).float()}
        angle = math.pi * uniform[:, 0]
        return {"goal": torch.stack([angle.cos(), angle.sin()], 1).float()}

    def reset(self, parameters: Params, noise: Tensor) -> Params:
        """See :meth:`Environment.reset`."""
        goal = parameters["goal"]
        return {"position": torch.zeros_like(goal), "time": torch.zeros(len(goal), dtype=torch.int64, device=goal.device)}

    def observe(self, parameters: Params, state: Params) -> Tensor:
        """See :meth:`Environment.observe`."""
        return state["position"]

    def step(self, parameters: Params, state: Params, actions: Tensor, noise: Tensor) -> Step:
        """See :meth:`Environment.step`; each coordinate moves by at most 0.1."""
        position = state["position"] + actions.clamp(-_FASTEST, _FASTEST)
        distance = (position - parameters["goal"]).norm(dim=1)
        new = {"position": position, "time": state["time"] + 1}
        if self.goals == "square":
            return Step(new, -distance, (distance <= _REACHED) | (new["time"] == self.horizon))
        return Step(new, torch.where(distance <= self.radius, 1 - distance, torch.zeros_like(distance)))

    def best_return(self, parameters: Params) -> Tensor:
        """See :meth:`Environment.best_return`."""
        return best_played(self, parameters)

    def best_actions(self, parameters: Params, state: Params, left: int) -> Tensor:
        """See :meth:`Environment.best_actions`; each coordinate as fast as it can, which is the closest at every time."""
        return (parameters["goal"] - state["position"]).clamp(-_FASTEST, _FASTEST)

    def map(self, parameters: Params, state: Params) -> Map:
        """See :meth:`Environment.map`; the square or half circle of the goals, and what is around them."""
        return Map(*_CORNERS[self.goals], state["position"], {"goal": parameters["goal"]})

    def drawings(self, parameters: Params, state: Params) -> list[Drawing]:
        """See :meth:`Environment.drawings`; the map, coarsely."""
        low, high = _CORNERS[self.goals]
        marks = ((GOAL, parameters["goal"]), (PLAYER, state["position"]))
        return drawings(_CELLS, _CELLS, [(symbol, *on_a_map(place, low, high, _CELLS)) for symbol, place in marks])
