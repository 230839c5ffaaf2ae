"""Trials for tests of control: families of environments, their tasks, and rollouts."""

import torch

from metaloop.control.environments.bandits import BernoulliBandits, GaussianBandits
from metaloop.control.environments.environment import Environment, World
from metaloop.control.environments.grids import DarkRoom, KeyToDoor
from metaloop.control.environments.navigation import PointNavigation
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
}


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
