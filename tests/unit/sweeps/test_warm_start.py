"""Searches that begin with finished sweeps."""

from pathlib import Path

import numpy as np
import pytest
from test_search_driver import searching

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY
from metaloop.records.jobs import DONE, FAILED
from metaloop.sweeps.launch.devices import FreeDevices, Machine
from metaloop.sweeps.ledger import Ledger
from metaloop.sweeps.search.finished_sweeps import encoded, finished_sweep, normal_scores, read_finished
from metaloop.sweeps.search.search import Parameter, Search, read_search
from metaloop.sweeps.search.sweep_process import SweepProcess
from metaloop.sweeps.search.warm_start import PORTFOLIO, PROCESS, WarmStart, expected_improvement

SPACE = {
    "a": Parameter("float", 1e-3, 1e1, log=True),
    "b": Parameter("int", 1, 5),
    "c": Parameter("choice", choices=("x", "y")),
}


def test_settings_are_encoded_on_their_scales() -> None:
    rows = encoded([{"a": 1e-3, "b": 5, "c": "x"}, {"a": 0.1, "b": 3, "c": "y"}], SPACE)
    np.testing.assert_allclose(rows, [[0, 1, 1, 0], [0.5, 0.5, 0, 1]], atol=1e-12)


def test_normal_scores_keep_the_order_alone() -> None:
    scores = normal_scores(np.array([0.1, 0.9, 0.5, 0.5]))
    assert scores[0] < scores[2] == scores[3] < scores[1]
    np.testing.assert_allclose(scores, normal_scores(np.array([-100, 3.0, 2, 2])))
    assert scores.sum() == pytest.approx(0.0)


def test_expected_improvement_is_that_of_a_normal_distribution() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.5, 200_000)
    expected = np.maximum(draws - 0.6, 0).mean()
    assert expected_improvement(np.array([0.3]), np.array([0.5]), 0.6)[0] == pytest.approx(expected, rel=0.02)


def surface(best: float, seed: int) -> tuple[list[dict[str, float]], np.ndarray]:
    """Trials of a parameter whose best value is ``best``."""
    values = np.random.default_rng(seed).random(20)
    return [{"a": float(v)} for v in values], -np.abs(values - best)


LINE = {"a": Parameter("float", 0.0, 1.0)}


def test_the_portfolio_covers_the_sweeps_and_then_the_process_and_the_sampler_take_turns() -> None:
    sweeps = [finished_sweep(*surface(best, seed)) for seed, best in enumerate((0.2, 0.22, 0.8))]
    warm = WarmStart(sweeps, LINE, 0)
    first = [params["a"] for params in warm.portfolio]
    assert any(abs(value - 0.2) < 0.1 for value in first)
    assert any(abs(value - 0.8) < 0.1 for value in first)
    tried: list[dict[str, float]] = []
    while (proposal := warm.propose(len(tried), tried, [None] * len(tried))) is not None and proposal[1] == PORTFOLIO:
        tried.append(dict(proposal[0]))
    assert [each["a"] for each in tried] == first
    assert proposal is None  # nothing is known of the new data set
    scores = [-abs(each["a"] - 0.8) for each in tried]
    if len(tried) < 3:
        tried, scores = [*tried, {"a": 0.5}, {"a": 0.1}], [*scores, -0.3, -0.7]
    proposal = warm.propose(7, tried, scores)
    assert proposal is not None
    assert proposal[1] == PROCESS
    assert proposal[0] not in tried
    assert warm.propose(9, tried, scores) is None  # every third is the sampler's
    assert WarmStart(sweeps, LINE, 0).propose(7, tried, scores) == proposal  # a function of its arguments


def test_a_process_learns_what_sweeps_have_in_common() -> None:
    data = []
    for seed, best in enumerate((0.3, 0.35, 0.4, 0.45)):
        params, scores = surface(best, seed)
        data.append((encoded(params, LINE), normal_scores(scores)))
    process = SweepProcess(data, 0, 150)
    params, scores = surface(0.38, 9)
    x = encoded(params, LINE)
    mean, deviation = process.predict(x[:4], scores[:4], x[4:])
    assert np.corrcoef(mean, scores[4:])[0, 1] > 0.6
    assert (deviation > 0).all()


def ledger(folder: Path, runs: list[tuple[list[str], float, str]]) -> Path:
    """A sweep of small_search with these overrides, scores and states."""
    one = searching(folder, f"search.trials={len(runs)}")
    while len(one.ledger.jobs()) < len(runs):
        one.supply(FreeDevices(Machine((), 1, 2, 1)))
        for job in one.ledger.jobs():
            if job.state == "waiting":
                owner = one.ledger.claim(job.key, "cpu", 9)
                assert owner
                score, state = runs[job.number - 1][1:] if job.number <= len(runs) else (0.5, DONE)
                result = {"metric": ACCURACY.as_dict(), "mean": 0.5, "half_width": 0.1, "best_validation": score}
                one.ledger.end(job.key, owner, state, result=result if state == DONE else None)
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_search_begins_with_the_best_of_finished_ones(tmp_path: Path) -> None:
    finished = ledger(tmp_path / "old", [([], 0.1 * k, DONE) for k in range(6)])
    known = read_finished(finished, searching(tmp_path / "old", "search.trials=6").search.space)
    assert len(known.params) == len({tuple(each.items()) for each in known.params}) <= 6
    warm = searching(tmp_path / "new", "search.trials=3", f"search.warm_start=[{finished}]")
    assert f"the first from {finished}" in warm.opening()
    warm.supply(FreeDevices(Machine((), 1, 2, 1)))
    with warm.study.locked():
        first = warm.study.trials()[0]
    best = known.params[int(known.scores.argmax())]
    assert first.params == best
    assert first.user_attrs["origin"] == PORTFOLIO
    assert {f"{key}={value}" for key, value in warm.study.overrides_of(first).items()} <= set(
        Ledger(tmp_path / "new").jobs()[0].overrides
    )


def test_failed_runs_and_other_spaces_say_nothing(tmp_path: Path) -> None:
    finished = ledger(tmp_path / "old", [([], 0.5, DONE), ([], 0.5, FAILED), ([], 0.5, FAILED)])
    space = searching(tmp_path / "old", "search.trials=3").search.space
    with pytest.raises(UserError, match="has 1 finished settings in this search's space"):
        read_finished(finished, space)
    with pytest.raises(UserError, match="has 0 finished settings"):
        read_finished(finished, LINE)
    with pytest.raises(UserError, match="is no sweep, it has no ledger"):
        read_finished(tmp_path, space)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"search\.warm_start needs validation as the only objective"):
        Search(LINE, objectives={"seconds": "minimize"}, warm_start=("a",))
    assert read_search({"space": {"a": {"low": 0.0, "high": 1.0}}, "warm_start": "one"}, {}).warm_start == ("one",)
    with pytest.raises(UserError, match="is no sweep, it has no ledger"):
        searching(tmp_path / "new", "search.warm_start=nowhere")
