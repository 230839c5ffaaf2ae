"""Environments of gymnasium as a family: the same steps as by hand, and functions of the task's number."""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from trials import played, tasks_of, world_of

from metaloop.control.agents.simple import Random
from metaloop.control.environments.gymnasium_family import GymnasiumFamily
from metaloop.control.environments.stateful import StatefulEnvironment
from metaloop.control.noise import TrialNoise
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.testing import check_environment
from metaloop.types import EpisodeSpec, Params

gymnasium = pytest.importorskip("gymnasium")

FAMILIES = {
    "attributes": GymnasiumFamily("CartPole-v1", 25, {"force_mag": [5, 15], "gravity": 9.8}, None),
    "arguments": GymnasiumFamily("Pendulum-v1", 7, None, {"g": [8, 12]}),
    "discrete observations": GymnasiumFamily("FrozenLake-v1", 9, None, {"success_rate": [0.3, 0.9]}),
}
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


class Counting(gymnasium.Env):  # type: ignore[misc]
    """Pays the number of its action and shows two parts; actions begin at 3."""

    def __init__(self, pay: float = 1.0) -> None:
        self.pay = pay
        self.observation_space = gymnasium.spaces.Dict(
            {"a": gymnasium.spaces.Discrete(3), "b": gymnasium.spaces.Box(0, 1, (2,))}
        )
        self.action_space = gymnasium.spaces.Discrete(2, start=3)
        self.count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        return {"a": self.count % 3, "b": np.full(2, self.pay, np.float32)}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self.seen(), self.pay * action, self.count == 4, False, {}


class Faulty(gymnasium.Env):  # type: ignore[misc]
    """Breaks one law at its fifth step: 1, a reward that is no number; 2, an observation that grows; 3, no end."""

    observation_space, action_space = gymnasium.spaces.Box(0, 9, (2,)), gymnasium.spaces.Discrete(2)

    def __init__(self, fault: float = 0) -> None:
        self.fault, self.count = fault, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        broken = round(self.fault) if self.count == 5 else 0
        return np.zeros(3 if broken == 2 else 2, np.float32), float("nan") if broken == 1 else 0.0, False, False, {}


class Endless(StatefulEnvironment):
    """Without the wrapper that ends episodes."""

    def __init__(self) -> None:
        super().__init__("endless", {"fault": 3.0})

    def parameters(self, stream: Stream, numbers: torch.Tensor) -> Params:
        return {"fault": torch.full((len(numbers),), 3.0)}

    def make(self, values: Mapping[str, float]) -> Any:
        made = gymnasium.make("Faulty-v0", max_episode_steps=8, fault=3.0)
        made.unwrapped.spec = made.spec
        return made.unwrapped


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (1, r"the reward of task 0 \(numbered \d+\) is nan \(episode 0, step 4 of the trial\)"),
        (2, r"an observation of task 0 has the shape \(3,\), it must be \(2,\) \(step 5 of an episode\)"),
        (3, r"3 episodes do not end, among them that of task 0 .*at most horizon=8 steps"),
    ],
)
def test_a_broken_environment_is_refused_with_task_and_step(fault: float, words: str) -> None:
    family = Endless() if fault == 3 else GymnasiumFamily("Faulty-v0", 8, None, {"fault": [fault, fault + 1e-9]})
    with pytest.raises(UserError, match=words):
        played(family, Random(), 3)


@pytest.fixture(autouse=True)
def _counting() -> Any:
    made = {"Counting-v0": Counting, "Faulty-v0": Faulty}
    for name, kind in made.items():
        gymnasium.register(name, kind)
    yield
    for name in made:
        del gymnasium.registry[name]


@families
def test_the_contract_of_environments_holds(family: GymnasiumFamily) -> None:
    check_environment(family)


@pytest.mark.parametrize("task", [0, 3])
def test_a_trial_is_the_one_that_gymnasium_plays_by_hand(task: int) -> None:
    family = FAMILIES["attributes"]
    rollouts, tasks = played(family, Random(), 5, episodes=3), tasks_of(family, 5)
    by_hand = gymnasium.make("CartPole-v1")
    by_hand.unwrapped.force_mag = world_of(tasks).parameters["attributes.force_mag"][task].item()
    noise = TrialNoise(tasks.support.number, 2, "starts")  # type: ignore[arg-type]
    for episode in range(3):
        low, high = (noise.next()[task].double() * 2**24).long().tolist()
        seen, over = by_hand.reset(seed=(high << 24) + low)[0], False
        for place in range(25 * episode, 25 * episode + 25):
            assert torch.equal(rollouts.observations[place, task], torch.tensor(seen))
            assert bool(rollouts.real[place, task]) == (not over)
            assert rollouts.rewards[place, task].item() == (0 if over else 1)
            if not over:
                seen, _, over, _, _ = by_hand.step(int(rollouts.actions[place, task]))
    assert not bool(rollouts.real.all())


def test_there_is_an_object_for_each_task_of_a_batch_and_no_more() -> None:
    family = GymnasiumFamily("CartPole-v1", 5, {"force_mag": [5, 15]}, None)
    batches = list(Episodes(family, EpisodeSpec(1, 1, 2), Stream(0, "train")).batches(0, 40, 4, "cpu"))
    assert len(batches) == 10
    assert len(family._slots) == 4
    expected = played(family, Random(), 1, first=6).returns
    assert torch.equal(expected, played(family, Random(), 9).returns[6:7])
    assert len(family._slots) == 9


def test_actions_fill_the_bounds_of_the_space() -> None:
    native = FAMILIES["arguments"]._native(torch.tensor([[-1.0], [0.5], [7.0]]))
    assert [float(each[0]) for each in native] == [-2.0, 1.0, 2.0]
    assert native[0].dtype == np.float32


def test_parts_of_an_observation_are_one_vector_and_numbers_of_actions_begin_at_0() -> None:
    family = GymnasiumFamily("Counting-v0", 10, {"pay": [0.5, 1.0]}, None)
    assert family.input_shape == (5,)
    rollouts = played(family, Random(), 6, episodes=1)
    pay = world_of(tasks_of(family, 6)).parameters["attributes.pay"].float()
    assert torch.allclose(rollouts.rewards[:4], pay * (rollouts.actions[:4] + 3))
    assert torch.equal(rollouts.observations[1, :, :3], torch.tensor([0.0, 1.0, 0.0]).expand(6, 3))
    assert torch.allclose(rollouts.observations[1, :, 3:], pay[:, None].expand(6, 2))
    assert rollouts.real.sum(0).tolist() == [4] * 6


def test_an_environment_that_has_gone_on_is_not_stepped_from_an_earlier_state() -> None:
    family = FAMILIES["attributes"]
    world = world_of(tasks_of(family, 3))
    start = family.reset(world.parameters, torch.full((3, 2), 0.5))
    actions, nothing = torch.zeros(3, dtype=torch.int64), torch.empty(3, 0)
    after = family.step(world.parameters, start, actions, nothing).state
    with pytest.raises(UserError, match=r"CartPole-v1 cannot go back.*dataset=cart_pole"):
        family.step(world.parameters, start, actions, nothing)
    family.step(world.parameters, after, actions, nothing)
    family.reset(world.parameters, torch.full((3, 2), 0.5))
    with pytest.raises(UserError, match="cannot go back"):
        family.step(world.parameters, after, actions, nothing)


@pytest.mark.parametrize(
    ("id", "horizon", "attributes", "words"),
    [
        ("CartPole-v1", None, None, "all tasks would be the same; give one a range"),
        ("CartPole-v1", None, {"length": 0.5}, "all tasks would be the same"),
        ("CartPole-v1", None, {"width": [1, 2]}, r"attributes\.width: CartPoleEnv has no number of this name; it has .*length"),
        ("CartPole-v1", None, {"spec.id": [1, 2]}, r"attributes\.spec\.id: EnvSpec has no number"),
        ("CartPole-v1", None, {"length": [2, 1]}, r"attributes\.length=.*low <= high"),
        ("CartPole-v1", 0, {"length": [1, 2]}, "horizon=0"),
        ("CratPole-v1", None, {"length": [1, 2]}, "id=CratPole-v1: gymnasium cannot make it.*CartPole"),
        ("os:CartPole-v1", None, {"length": [1, 2]}, "id=os:CartPole-v1: only a name that is registered"),
        ("Counting-v0", None, {"pay": [1, 2]}, "horizon=null: episodes of Counting-v0 have no limit"),
    ],
)
def test_what_cannot_be_played_is_refused_by_its_key(id: str, horizon: int | None, attributes: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.environment\.(attributes=.*)?{words}"):
        GymnasiumFamily(id, horizon, attributes, None)
    if attributes is None:
        with pytest.raises(UserError, match=r"id=CartPole-v1: gymnasium cannot make it with \{'colour': 1.0\}"):
            GymnasiumFamily(id, horizon, None, {"colour": [1, 2]})


def test_without_gymnasium_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(UserError, match=r"gymnasium cannot be imported.*pip install 'metaloop\[rl\]'"):
        GymnasiumFamily("CartPole-v1", None, {"length": [1, 2]}, None)
