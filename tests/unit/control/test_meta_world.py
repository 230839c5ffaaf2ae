"""Meta-World: the tasks of its splits, the same steps as by hand, and success beside the return."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from trials import played, world_of

from metaloop.control.agents.simple import Random
from metaloop.control.environments.suites.meta_world import MetaWorld
from metaloop.control.noise import TrialNoise
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.testing import check_environment
from metaloop.types import EpisodeSpec

HORIZON = 12


@pytest.fixture(scope="module")
def reach() -> MetaWorld:
    pytest.importorskip("metaworld")
    return MetaWorld("ML1", "reach-v3", HORIZON, 0)


def test_the_contract_of_environments_holds(reach: MetaWorld) -> None:
    check_environment(reach)


def test_splits_are_those_of_the_benchmark(reach: MetaWorld) -> None:
    import metaworld

    made = metaworld.ML1("reach-v3", seed=0)
    goals = {part: {task.data for task in getattr(made, f"{part}_tasks")} for part in ("train", "test")}
    assert len(goals["train"] | goals["test"]) == 100

    def drawn(split: str, count: int) -> list[Any]:
        tasks = Episodes(reach, EpisodeSpec(1, 1, 1), Stream(0, split)).tasks(torch.arange(count))
        return [reach.members[task].data for task in world_of(tasks).parameters["task"].tolist()]

    assert sorted(drawn("test", 50)) == sorted(goals["test"])  # each once
    assert set(drawn("train", 400)) == set(drawn("validation", 400)) == goals["train"]


def test_a_trial_is_the_one_that_meta_world_plays_by_hand(reach: MetaWorld) -> None:
    import metaworld

    made = metaworld.ML1("reach-v3", seed=0)
    environment = made.test_classes["reach-v3"]()
    environment.set_task(made.test_tasks[2])
    rollouts = played(reach, Random(), 3, episodes=1)
    tasks = Episodes(reach, EpisodeSpec(1, 1, 1), Stream(0, "test")).tasks(torch.arange(3))
    assert tasks.support.number is not None
    noise = TrialNoise(tasks.support.number, 4, "policy")
    seen, _ = environment.reset()
    for step in range(HORIZON):
        np.testing.assert_allclose(rollouts.observations[step, 2], seen, rtol=1e-6)
        seen, reward, *_ = environment.step((2 * noise.next()[2] - 1).numpy())
        assert float(rollouts.rewards[step, 2]) == pytest.approx(float(reward), rel=1e-5)
    assert rollouts.observations[0, :, -3:].abs().max() == 0  # the goal is not shown


def test_success_at_any_step_is_scored_beside_the_return(reach: MetaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    rollouts = played(reach, Random(), 2, episodes=2)
    assert rollouts.solved is not None
    assert rollouts.solved.tolist() == [[False, False], [False, False]]
    kind, count = type(reach._slots[0].environment.unwrapped), [0]
    step = kind.step

    def lucky(self: Any, action: Any) -> Any:
        *rest, info = step(self, action)
        count[0] += 1
        return *rest, {**info, "success": float(count[0] == 5)}

    monkeypatch.setattr(kind, "step", lucky)
    rollouts = played(reach, Random(), 2, episodes=2)
    assert rollouts.solved is not None
    assert rollouts.solved.tolist() == [[True, False], [False, False]]
    query = Episodes(reach, EpisodeSpec(1, 1, 2), Stream(0, "test")).tasks(torch.arange(2)).query
    scores = reach.problem.scores(rollouts.outcomes, query)
    assert scores["success_rate"].tolist() == [0.5, 0.0]
    assert scores["last_success"].tolist() == [0.0, 0.0]
    assert torch.equal(scores["score"], rollouts.returns.sum(1))
    assert {"success_rate", "last_success"} < {metric.name for metric in reach.problem.statistics}


@pytest.mark.slow
def test_skills_of_ml10_are_apart_and_interleaved() -> None:
    pytest.importorskip("metaworld")
    family = MetaWorld("ML10", None, HORIZON, 0)
    names = [task.env_name for task in family.members]
    assert len(set(names[: family.trained])) == 10
    assert len(set(names[family.trained :])) == len(set(names[family.trained :][:5])) == 5
    assert not set(names[: family.trained]) & set(names[family.trained :])
    assert played(family, Random(), 6, episodes=1).rewards.isfinite().all()
    assert [slot.environment.spec.id for slot in family._slots[:6]] == names[family.trained :][:6]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("ML2", None, 5, 0), "benchmark='ML2': one of ML1, ML10, ML45"),
        (("ML1", None, 5, 0), "skill=None: ML1 needs one"),
        (("ML10", "reach-v3", 5, 0), "ML10 has its own: null"),
        (("ML1", "reach-v3", 501, 0), "horizon=501: at most 500"),
    ],
)
def test_what_cannot_be_played_is_refused_by_its_key(settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        MetaWorld(*settings)


def test_a_skill_that_does_not_exist_is_refused(reach: MetaWorld) -> None:
    with pytest.raises(UserError, match="skill=fly-v3: one of assembly-v3"):
        MetaWorld("ML1", "fly-v3", 5, 0)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(UserError, match=r"pip install 'metaloop\[metaworld\]'"):
        MetaWorld("ML1", "reach-v3", 5, 0)
