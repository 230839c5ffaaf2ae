"""A search and its ledger: what is proposed, told, shared and resumed. Runs are ended by hand but where it says so."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gated_runs import Gate, started, wait_until
from gated_runs import jobs as jobs_of
from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY
from metaloop.records.jobs import CANCELLED, DONE, FAILED, PRUNED, RUNNING, Job
from metaloop.sweeps.compose import with_overrides
from metaloop.sweeps.launch.devices import FreeDevices, Machine
from metaloop.sweeps.ledger import Ledger
from metaloop.sweeps.options import Options
from metaloop.sweeps.plan import read_plan
from metaloop.sweeps.search.driver import SearchDriver, checked_runs
from metaloop.sweeps.search.search_file import validations
from small_runs import SMALL_CONF

CONF = [str(SMALL_CONF)]
TESTS = Path(__file__).parents[2]
MACHINE = Machine((), 1, 2, 1)
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def searching(directory: Path, *words: str, objectives: dict[str, Any] | None = None) -> SearchDriver:
    plan = with_overrides(read_plan("small_search", CONF), words, CONF)
    assert plan.search is not None
    search = plan.search if objectives is None else type(plan.search)(plan.search.space, objectives=objectives)
    options = Options(directory, CONF, MACHINE, 0, 60, False)
    return SearchDriver(plan, search, checked_runs(plan, search, CONF)[0], options)


def ended(ledger: Ledger, job: Job, state: str = DONE, score: float = 0.5, rate: float = 1.0) -> None:
    """End a run as its process would."""
    owner = ledger.claim(job.key, "cpu", 9)
    assert owner is not None
    result = {"metric": ACCURACY.as_dict(), "mean": 0.5, "half_width": 0.1, "best_validation": score, "tasks_per_second": rate}
    assert ledger.end(job.key, owner, state, result=result if state == DONE else None)


def waiting(ledger: Ledger) -> list[Job]:
    return [job for job in ledger.jobs() if job.state == "waiting"]


def told(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "search.json").read_text()))


def states(directory: Path) -> list[str]:
    return [trial["state"] for trial in told(directory)["trials"]]


def test_as_many_are_proposed_as_there_is_room_and_as_are_wanted(tmp_path: Path) -> None:
    one = searching(tmp_path, "search.trials=5")
    free = FreeDevices(MACHINE)
    assert len(one.supply(free)) == 2
    assert len(one.supply(free)) == 2  # they have not started yet
    for count in (4, 5, 5):
        for job in waiting(one.ledger):
            ended(one.ledger, job)
        assert len(one.supply(free)) == count
    assert states(tmp_path) == [DONE] * 5
    for trial in told(tmp_path)["trials"]:
        assert {f"{key}={value}" for key, value in trial["params"].items()} <= set(trial["overrides"])


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    first, second = searching(tmp_path, "search.trials=3"), searching(tmp_path, "search.trials=3")
    for _ in range(4):
        for one in (first, second):
            one.supply(FreeDevices(MACHINE))
            for job in waiting(one.ledger)[:1]:
                ended(one.ledger, job)
    assert len(first.ledger.jobs()) == 3
    assert states(tmp_path) == [DONE] * 3


def test_the_same_config_twice_is_run_once(tmp_path: Path) -> None:
    words = ("algorithm.rule.lr=0.1", "algorithm.steps=1,2", "algorithm/objective=last_step", "search.trials=6")
    one = searching(tmp_path, *words)
    free = FreeDevices(MACHINE)
    for _ in range(6):
        one.supply(free)
        for job in waiting(one.ledger):
            ended(one.ledger, job, score=float(job.number))
    one.supply(free)
    assert len(one.ledger.jobs()) == 2
    assert states(tmp_path) == [DONE] * 6
    assert {(trial["key"], trial["values"]["validation"]) for trial in told(tmp_path)["trials"]} == {
        (job.key, float(job.number)) for job in one.ledger.jobs()
    }


def test_a_proposal_whose_process_was_killed_before_the_ledger_knew_is_run(tmp_path: Path) -> None:
    one = searching(tmp_path, "search.trials=1")
    with one.study.locked():
        one.study.ask()
    again = searching(tmp_path, "search.trials=1")
    assert len(again.supply(FreeDevices(MACHINE))) == len(waiting(again.ledger)) == 1


def test_a_failure_is_told_and_what_becomes_of_it_after_a_retry_too(tmp_path: Path) -> None:
    one = searching(tmp_path, "search.trials=2")
    one.supply(FreeDevices(MACHINE))
    bad, good = waiting(one.ledger)
    ended(one.ledger, bad, FAILED)
    ended(one.ledger, good, score=0.4)
    one.supply(FreeDevices(MACHINE))
    assert states(tmp_path) == [FAILED, DONE]
    one.ledger.retry([bad.key])
    ended(one.ledger, bad, score=0.9)
    one.supply(FreeDevices(MACHINE))
    assert sorted(states(tmp_path)) == [DONE, DONE]
    (best,) = [trial for trial in told(tmp_path)["trials"] if trial["number"] in told(tmp_path)["best"]]
    assert best["key"] == bad.key


def test_after_a_cancel_nothing_new_is_proposed(tmp_path: Path) -> None:
    one = searching(tmp_path)
    one.supply(FreeDevices(MACHINE))
    one.ledger.cancel([job.key for job in one.ledger.jobs()])
    one.supply(FreeDevices(MACHINE))
    assert [job.state for job in one.ledger.jobs()] == [CANCELLED, CANCELLED]
    assert one.close() == 1


def test_a_trial_that_falls_behind_is_pruned_in_the_ledger(tmp_path: Path) -> None:
    one = searching(tmp_path, "search.prune=median", "search.trials=7")
    free = FreeDevices(MACHINE)
    for _ in range(3):
        one.supply(free)
        for job in waiting(one.ledger):
            scores(tmp_path / job.directory, 0.8)
            ended(one.ledger, job, score=0.8)
    one.supply(free)
    (job,) = waiting(one.ledger)
    owner = one.ledger.claim(job.key, "cpu", 0)
    scores(tmp_path / job.directory, 0.2)
    one.supply(free)
    assert one.ledger.job(job.key).state == PRUNED
    assert owner is not None
    assert not one.ledger.beat(job.key, owner)  # so that its process stops
    assert not one.ledger.end(job.key, owner, "interrupted")
    assert one.ledger.claim(job.key, "cpu", 9) is None
    one.supply(free)
    assert states(tmp_path) == [DONE] * 6 + [PRUNED]
    assert told(tmp_path)["trials"][-1]["intermediate"] == {"2": 0.2}
    assert one.close() == 0


def scores(directory: Path, score: float) -> None:
    directory.mkdir(parents=True)
    (directory / "metrics.csv").write_text(f"step,train/loss,validation/score\n1,0.5,\n2,,{score}\n4,,0.")


def test_a_half_written_row_is_no_score(tmp_path: Path) -> None:
    scores(tmp_path / "run", 0.25)
    assert validations(tmp_path / "run") == {2: 0.25}
    assert validations(tmp_path) == {}


def test_several_objectives_have_a_front(tmp_path: Path, capsys: Captured) -> None:
    one = searching(tmp_path, objectives={"validation": None, "tasks_per_second": "maximize"})
    values = iter([(0.5, 9.0), (0.6, 5.0), (0.4, 4.0), (0.3, 10.0)])
    for _ in range(2):
        one.supply(FreeDevices(MACHINE))
        for job in waiting(one.ledger):
            score, rate = next(values)
            ended(one.ledger, job, score=score, rate=rate)
    one.close()
    assert told(tmp_path)["objectives"] == {"validation": "maximize", "tasks_per_second": "maximize"}
    assert told(tmp_path)["best"] == [0, 1, 3]
    assert "meta-validation 60.00 %, 5 tasks/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["algorithm.stepz=1,2"], "did you mean algorithm.steps"),
        (["algorithm/objective=last_step,first_step"], "did you mean last_step"),
        (["hydra/launcher=joblib"], "a search cannot use a launcher"),
        (["search.trials=0"], "search.trials=0"),
        (["trainer=gpu"], "GPUs, but there are 0"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(words: list[str], reason: str, capsys: Captured) -> None:
    assert main(["sweep", "small_search", "--config-dir", *CONF, *words]) == 2
    assert reason in capsys.readouterr().err
    assert not list(Path().rglob("ledger.sqlite"))


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", "small_search", "--config-dir", *CONF, "--dry-run"]) == 2
    assert "pip install 'metaloop[search]'" in capsys.readouterr().err


def test_a_key_cannot_be_held_and_searched(tmp_path: Path) -> None:
    plan = read_plan("small_search", CONF)
    assert plan.search is not None
    with pytest.raises(UserError, match="remove it from one of them"):
        checked_runs(type(plan)("x", {"algorithm.steps": "1"}, search=plan.search), plan.search, CONF)


def test_a_dry_run_runs_nothing(capsys: Captured) -> None:
    assert main(["sweep", "small_search", "--config-dir", *CONF, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "algorithm.rule.lr  0.01 to 1, log" in shown
    assert "12 trials by validation" in shown
    assert not Path("outputs").exists()


def test_a_search_by_its_command_goes_on_to_more_trials(capsys: Captured) -> None:
    """Real runs."""
    directory = Path("outputs/sweeps/small_search")
    for trials, known in ((1, 0), (2, 1)):
        words = ["sweep", "small_search", "--config-dir", *CONF, "--jobs", "2", f"search.trials={trials}"]
        assert main(words) == 0
        shown = capsys.readouterr().out
        assert f"{trials} trials, {known} known already" in shown
        assert f"   {trials}/{trials} done " in shown
        assert states(directory) == [DONE] * trials
    for trial in told(directory)["trials"]:
        record = json.loads((directory / trial["directory"] / "record.json").read_text())
        assert record["training"]["best_validation"] == trial["values"]["validation"] == max(trial["intermediate"].values())
    assert "metaloop train --config-dir" in shown


@pytest.mark.slow
@pytest.mark.parametrize("trials", [3, 12])
def test_kill_9_and_two_processes_end_with_exactly_the_trials(trials: int, tmp_path: Path) -> None:
    """The real command, killed while it has a run; then two at once."""
    messages, directory = tmp_path / "messages.txt", Path("outputs/sweeps/small_search")
    with Gate(tmp_path / "gate", step=3) as gate:
        words = ["sweep", "small_search", "--config-dir", *CONF, "--jobs", "1", f"search.trials={trials}", gate.override]
        first = started(words, messages)
        wait_until(lambda: any(job.state == RUNNING for job in jobs_of(directory)), first, messages)
        first.kill()
        first.wait()
        gate.open()
        both = [started(words, messages), started(words, messages)]
        assert [process.wait() for process in both] == [0, 0], messages.read_text()
    jobs = Ledger(directory).jobs()
    assert [job.state for job in jobs] == [DONE] * len(jobs)
    assert len(list(directory.rglob("record.json"))) == len(jobs) == len({job.key for job in jobs})
    assert states(directory) == [DONE] * trials
    assert {trial["key"] for trial in told(directory)["trials"]} == {job.key for job in jobs}
