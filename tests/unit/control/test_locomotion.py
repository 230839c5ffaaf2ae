"""Robots that run: their rewards by hand, and the contract of environments."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from trials import played, tasks_of, world_of

from metaloop.control.agents.simple import Random
from metaloop.control.environments.locomotion import AntDir, HalfCheetahDir, HalfCheetahVel, Runner
from metaloop.control.noise import TrialNoise
from metaloop.errors import UserError
from metaloop.testing import check_environment

pytest.importorskip("gymnasium")
from small_runs import trained


def test_without_mujoco_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UserError, match=r"HalfCheetah-v5 needs more than is installed.*pip install 'metaloop\[mujoco\]'"):
        HalfCheetahDir(5, 0.05)


def families() -> dict[str, Runner]:
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")
    return {"dir": HalfCheetahDir(6, 0.05), "vel": HalfCheetahVel(6, 0.05, [0, 2]), "ant": AntDir(6, 0.005)}


@pytest.mark.parametrize("name", ["dir", "vel", "ant"])
def test_the_contract_of_environments_holds(name: str) -> None:
    check_environment(families()[name], episodes=1)


@pytest.mark.parametrize("name", ["dir", "vel", "ant"])
def test_rewards_are_those_of_the_paper(name: str) -> None:
    """From the velocities that gymnasium's environments say."""
    import gymnasium

    family = families()[name]
    rollouts, tasks = played(family, Random(), 3, episodes=1), tasks_of(family, 3)
    goal = world_of(tasks).parameters["goal"]
    seeds = (TrialNoise(tasks.support.number, 2, "starts").next().double() * 2**24).long().tolist()  # type: ignore[arg-type]
    arguments = {"include_cfrc_ext_in_observation": False} if name == "ant" else {}
    by_hand = gymnasium.make(family.robot, **arguments)
    for task, (low, high) in enumerate(seeds):
        seen = by_hand.reset(seed=(high << 24) + low)[0]
        for time in range(6):
            assert torch.allclose(rollouts.observations[time, task].double(), torch.tensor(seen), atol=1e-5)
            action = rollouts.actions[time, task].numpy()
            seen, _, _, _, info = by_hand.step(action)
            velocity, aim = info["x_velocity"], goal[task].item()
            run = -abs(velocity - aim) if name == "vel" else velocity * aim
            expected = run - family.control_cost * float(np.square(action.astype(float)).sum())
            assert rollouts.rewards[time, task].item() == pytest.approx(expected, abs=1e-5)


def test_goals_are_both_directions_and_all_speeds() -> None:
    made = families()
    directions = world_of(tasks_of(made["dir"], 40)).parameters["goal"]
    assert directions.unique().tolist() == [-1.0, 1.0]
    speeds = world_of(tasks_of(made["vel"], 40)).parameters["goal"]
    assert 0 <= speeds.min() < 0.3
    assert 1.7 < speeds.max() <= 2


def test_bad_settings_are_refused_by_their_key() -> None:
    for bad, key in (((0, 0.05), "horizon=0"), ((5, -1.0), "control_cost=-1")):
        with pytest.raises(UserError, match=f"dataset.environment.{key}"):
            AntDir(*bad)


@pytest.mark.parametrize("name", ["dir", "vel"])
def test_the_experiments_take_their_steps(name: str, tmp_path: Path) -> None:
    families()
    sizes = (
        "dataset.environment.horizon=5",
        "episode.queries=2",
        "algorithm.episodes=2",
        "outer.meta_batch=2",
        "model.hidden=[5]",
    )
    ends = ("trainer.max_steps=2", "validation.every=1", "validation.episodes=2", "evaluation.episodes=2", "evaluation.batch=2")
    trained(tmp_path, small=(f"experiment=finn2017_maml_half_cheetah_{name}", *sizes, *ends))
    assert (tmp_path / "record.json").is_file()
