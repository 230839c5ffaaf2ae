"""Robots of MuJoCo that must run in a direction, or at a speed, that they are not told (Finn et al. 2017, section 5.3)."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from metaloop.control.environments.environment import at_least
from metaloop.control.environments.ranges import Range, checked_ranges, drawn
from metaloop.control.environments.stateful import StatefulEnvironment, gymnasium_environment
from metaloop.data.philox import Stream
from metaloop.types import Params

_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "HalfCheetah-v5": {},
    "Ant-v5": {"include_cfrc_ext_in_observation": False},  # contact forces, 78 further numbers
}


class Runner(StatefulEnvironment):
    """A robot whose reward depends on its forward velocity, minus ``control_cost`` times the squared length of its action.

    Velocity, physics and ends are those of gymnasium's environment. An ant that falls ends its episode.

    Args:
        robot: name of the environment of gymnasium.
        title: name of the family in words.
        horizon: most steps of an episode.
        control_cost: weight of the squared action, at least 0.
        goals: range from which each task draws its goal.
    """

    def __init__(self, robot: str, title: str, horizon: int, control_cost: float, goals: tuple[float, float]) -> None:
        at_least({"horizon": (horizon, 1), "control_cost": (control_cost, 0)})
        self.robot, self.control_cost, self.limit, self.goals = robot, control_cost, horizon, goals
        super().__init__(title, {"goal": goals[0]})

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``goal`` (tasks,)."""
        return drawn({"goal": self.goals}, stream, numbers)

    def make(self, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.make`; the robots of all tasks are the same."""
        return gymnasium_environment(self.robot, self.limit, _ARGUMENTS[self.robot], "mujoco")

    def changed(self, environment: Any, values: Mapping[str, float]) -> Any:
        """See :meth:`StatefulEnvironment.changed`."""
        return environment

    def reward(self, reward: float, action: Any, info: Mapping[str, Any], values: Mapping[str, float]) -> float:
        """See :meth:`StatefulEnvironment.reward`."""
        cost = self.control_cost * float(np.square(np.asarray(action, np.float64)).sum())
        return self.running(float(info["x_velocity"]), values["goal"]) - cost

    @abstractmethod
    def running(self, velocity: float, goal: float) -> float:
        """Return the reward for a forward velocity, in meters a second."""


class Directed(Runner):
    """The goal is a direction, forward (1) or backward (-1), and the reward is the velocity in it."""

    def __init__(self, robot: str, title: str, horizon: int, control_cost: float) -> None:
        super().__init__(robot, title, horizon, control_cost, (-1.0, 1.0))

    def parameters(self, stream: Stream, numbers: Tensor) -> Params:
        """See :meth:`Environment.parameters`; ``goal`` (tasks,), -1 or 1."""
        return {"goal": 2.0 * stream.integers(numbers, 1, "directions", 2)[:, 0].float() - 1}

    def running(self, velocity: float, goal: float) -> float:
        """See :meth:`Runner.running`."""
        return goal * velocity


class HalfCheetahDir(Directed):
    """A half cheetah that runs forward or backward.

    Args:
        horizon: steps of an episode.
        control_cost: weight of the squared action.
    """

    def __init__(self, horizon: int, control_cost: float) -> None:
        super().__init__("HalfCheetah-v5", "half cheetahs with a direction", horizon, control_cost)


class AntDir(Directed):
    """An ant that runs forward or backward.

    Args:
        horizon: most steps of an episode.
        control_cost: weight of the squared action.
    """

    def __init__(self, horizon: int, control_cost: float) -> None:
        super().__init__("Ant-v5", "ants with a direction", horizon, control_cost)


class HalfCheetahVel(Runner):
    """A half cheetah that runs at a speed: the reward is minus the absolute difference of its velocity from the speed.

    Args:
        horizon: steps of an episode.
        control_cost: weight of the squared action.
        speed: range of the speeds, in meters a second.
    """

    def __init__(self, horizon: int, control_cost: float, speed: Range) -> None:
        speeds = checked_ranges({"speed": speed}, positive=False)["speed"]
        super().__init__("HalfCheetah-v5", "half cheetahs with a speed", horizon, control_cost, speeds)

    def running(self, velocity: float, goal: float) -> float:
        """See :meth:`Runner.running`."""
        return -abs(velocity - goal)
