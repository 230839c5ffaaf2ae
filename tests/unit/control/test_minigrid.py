"""MiniGrid through ``dataset=gymnasium``: pictures as observations, and layouts as tasks."""

import pytest
import torch
from trials import played, tasks_of, world_of

from metaloop.control.agents.simple import Random
from metaloop.control.environments.gymnasium_family import GymnasiumFamily
from metaloop.errors import UserError
from metaloop.testing import check_environment

pytest.importorskip("minigrid")


def four_rooms() -> GymnasiumFamily:
    return GymnasiumFamily("MiniGrid-FourRooms-v0", 9, None, None, one_start=True, part="image", divisor=10.0)


def test_the_contract_of_environments_holds() -> None:
    check_environment(four_rooms())


def test_a_layout_is_that_of_the_task_in_each_of_its_episodes() -> None:
    family = four_rooms()
    assert family.input_shape == (7, 7, 3)
    rollouts = played(family, Random(), 4, episodes=3)
    first = rollouts.observations[::9]  # of each episode
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    assert len({task.flatten().numpy().tobytes() for task in first[0]}) == 4
    assert 0 < rollouts.observations.max() <= 1
    seeds = world_of(tasks_of(family, 4)).parameters["seed"]
    assert len(set(seeds.tolist())) == 4


def test_numbers_of_all_tasks_are_passed_as_they_are() -> None:
    family = GymnasiumFamily("MiniGrid-Empty-5x5-v0", 5, None, {"size": 8}, one_start=True, part="image")
    assert family._slots[0].environment.unwrapped.width == 8


def test_texts_and_parts_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match=r"observations.*are of no fixed length.*dataset\.environment\.part"):
        GymnasiumFamily("MiniGrid-Empty-5x5-v0", 5, None, None, one_start=True)
    with pytest.raises(UserError, match=r"part=picture: parts of the observations of MiniGrid.* are direction, image, mission"):
        GymnasiumFamily("MiniGrid-Empty-5x5-v0", 5, None, None, one_start=True, part="picture")
    with pytest.raises(UserError, match="part=image: parts of the observations of CartPole-v1 are none"):
        GymnasiumFamily("CartPole-v1", 5, None, None, one_start=True, part="image")
