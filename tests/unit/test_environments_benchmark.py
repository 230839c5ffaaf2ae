"""The benchmark of environments counts right, and its page says what its record says."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import environments
from harness.stepping import Gymnasium, Ours

from metaloop.control.noise import TrialNoise


def test_the_page_has_the_table_of_the_record() -> None:
    record = json.loads(environments.RECORD.read_text())
    assert "\n".join(environments.table(record)) in environments.PAGE.read_text()
    assert set(record["families"]) == set(environments.FAMILIES)


def test_tasks_begin_again_where_their_episode_ends_from_starts_of_their_own() -> None:
    ours = Ours("cart_pole", 20, compiled=False)
    noise = TrialNoise(ours.noise._numbers, 4, "starts")
    starts = torch.stack([noise.next() for _ in range(130)])
    begun = torch.ones(20, dtype=torch.int64)
    assert torch.equal(ours.seen, 0.05 * (2 * starts[0] - 1))
    for _ in range(1500):
        ours.step()
        new = ours.state["time"] == 0
        expected = 0.05 * (2 * starts[begun, torch.arange(20)] - 1)
        assert torch.equal(ours.seen[new], expected[new])
        begun = begun + new
    assert begun.min() > 40
    assert begun.max() > 64  # starts are drawn in blocks of 64


def test_pendulums_begin_again_together() -> None:
    ours = Ours("pendulum", 3, compiled=False)
    for _ in range(200):
        ours.step()
    assert bool((ours.state["speed"].abs() <= 1).all())


@pytest.mark.parametrize("way", ["sync", "own"])
def test_gymnasium_takes_the_same_actions(way: str) -> None:
    pytest.importorskip("gymnasium")
    theirs, ours = Gymnasium("cart_pole", 4, way), Ours("cart_pole", 4, compiled=False)
    assert [actions.tolist() for actions in theirs.actions] == [actions.tolist() for actions in ours.actions]
    assert theirs.rate(0.0) > 0
    theirs.close()


def test_the_fastest_size_is_taken_and_the_bar_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    sizes = dict.fromkeys(environments.SIZES, (2, 4))
    makers = environments.contestants("pendulum")
    few = {way: makers[way] for way in ("metaloop", "SyncVectorEnv")}
    monkeypatch.setattr(environments, "contestants", lambda name: few)
    monkeypatch.setattr(environments, "OURS", ("metaloop",))
    found = environments.measure("pendulum", 1, 0.0, sizes)
    assert found["metaloop"]["fastest_peer"] == "SyncVectorEnv"
    assert found["metaloop"]["ratio"]["median"] == pytest.approx(
        found["metaloop"]["rate"]["median"] / found["SyncVectorEnv"]["rate"]["median"]
    )
    assert set(found["metaloop"]["by_size"]) == {"2", "4"}
    for ratio, word in ((20.0, "held"), (19.9, "missed")):
        found["metaloop"]["ratio"]["median"] = ratio
        record = {"families": {"pendulum": found}, "rounds": 1, "threads": 1}
        assert f"is {word} by `pendulum`" in environments.table(record)[-1]
