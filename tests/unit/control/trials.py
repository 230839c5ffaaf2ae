"""Trials for tests of control: families of environments, their tasks, and rollouts."""

import torch

from metaloop.control.environments.bandits import BernoulliBandits, GaussianBandits
from metaloop.control.environments.cart_pole import CartPole
from metaloop.control.environments.catch import Catch
from metaloop.control.environments.environment import Environment, World
from metaloop.control.environments.grids import DarkRoom, KeyToDoor
from metaloop.control.environments.navigation import PointNavigation
from metaloop.control.environments.pendulum import Pendulum
from metaloop.control.environments.pixel_maze import PixelMaze
from metaloop.control.environments.tabular import TabularMDPs
from metaloop.control.policies import ControlPolicy
from metaloop.control.rollouts import Rollouts, play
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.types import EpisodeSpec, Tasks

FAMILIES = {
    "bernoulli": BernoulliBandits(arms=3),
    "gaussian": GaussianBandits(arms=3),
    "tabular": TabularMDPs(states=4, actions=3, horizon=5),
    "square": PointNavigation(horizon=12, goals="square", radius=0.2),
    "half_circle": PointNavigation(horizon=20, goals="half_circle", radius=0.2),
    "dark_room": DarkRoom(size=5, horizon=8),
    "key_to_door": KeyToDoor(size=3, horizon=9),
    "catch": Catch(rows=5, columns=4, wind=0.4),
    "pixel_maze": PixelMaze(size=3, horizon=9, passages=0.1, step_cost=0.01, shows_goal=False),
}
WITHOUT_BEST = {  # families whose best return is not known
    "cart_pole": CartPole(30, [0.5, 2.0], [0.05, 0.2], [0.25, 1.0], [5.0, 15.0], reversed_share=0.5),
    "pendulum": Pendulum(10, [8.0, 12.0], [0.7, 1.3], [0.7, 1.3]),
}
ALL_FAMILIES = {**FAMILIES, **WITHOUT_BEST}


def tasks_of(environment: Environment, count: int, episodes: int = 2, first: int = 0) -> Tasks:
    """The tasks with these numbers of the test split."""
    spec = EpisodeSpec(ways=1, shots=1, queries=episodes)
    return Episodes(environment, spec, Stream(0, "test")).tasks(torch.arange(first, first + count))


def world_of(tasks: Tasks) -> World:
    """The tasks' environments."""
    world = tasks.support.world
    assert isinstance(world, World)
    return world


def played(environment: Environment, policy: ControlPolicy, count: int, episodes: int = 2, first: int = 0) -> Rollouts:
    """The policy's trials in the tasks with these numbers."""
    tasks = tasks_of(environment, count, episodes, first)
    assert tasks.support.number is not None
    return play(world_of(tasks), tasks.support.number, policy)
