"""``metaloop sweep`` and ``metaloop train -m`` from the command line."""

import importlib
import json
import os
import shutil
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.records.schema import RunIdentity
from metaloop.sweeps import driver, pricing
from metaloop.sweeps.launch.local import PRELOADED
from metaloop.sweeps.ledger import Ledger, Planned
from metaloop.training.trial import Trial
from small_runs import SMALL, SMALL_CONF, rows, trained

Captured = pytest.CaptureFixture[str]
CONF = ["--config-dir", str(SMALL_CONF)]
WORDS = ["sweep", "small", *CONF, "--jobs", "2"]
SWEEP = Path("outputs/sweeps/small")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(capsys: Captured, *argv: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(argv)) == code, capsys.readouterr()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


def test_a_sweep_runs_everything_once_and_gives_what_single_runs_give(tmp_path: Path, capsys: Captured) -> None:
    first = said(capsys, *WORDS)
    assert "4: 4 to run" in first
    assert "4 done" in first
    assert f"metaloop report {SWEEP}" in first
    jobs = Ledger(SWEEP).jobs()
    assert [job.attempts for job in jobs] == [1, 1, 1, 1]
    assert [dict(word.split("=", 1) for word in job.overrides)["seed"] for job in jobs] == ["0", "0", "1", "1"]
    assert jobs[0].directory.startswith("algorithm=maml,seed=0-")
    records = {job.directory: json.loads((SWEEP / job.directory / "record.json").read_text()) for job in jobs}
    assert {record["name"] for record in records.values()} == {"small"}
    alone = trained(tmp_path / "alone", "algorithm=fomaml", "seed=1")
    assert records[jobs[3].directory]["test"] == alone["test"]
    assert records[jobs[3].directory]["fingerprint"] == alone["fingerprint"]
    assert json.loads((SWEEP / jobs[0].directory / "run.json").read_text())["group"] == "small"
    times = [path.stat().st_mtime_ns for path in sorted(SWEEP.rglob("record.json"))]
    again = said(capsys, *WORDS, "seed=0,1,2")
    assert "6: 4 done already, 2 to run" in again
    assert "5/6 done" in again
    assert [path.stat().st_mtime_ns for path in sorted(SWEEP.rglob("record.json")) if path.stat().st_mtime_ns in times] == times
    shown = said(capsys, "sweep", "status", "small")
    assert "6 runs: 6 done" in shown
    assert "algorithm=fomaml" in shown
    assert "6 runs: 6 done" in said(capsys, "sweep", "status")
    assert "meta-test accuracy" in said(capsys, "sweep", "show", "small", "0")  # the log of the run


def test_a_run_that_fails_stops_no_other_and_is_told(capsys: Captured) -> None:
    # A rate that makes the loss infinite at once; a step further all others have ended.
    shown = said(capsys, *WORDS, "seed=0", "algorithm.rule.lr=0.1,1e38", "algorithm=maml", "--retries", "1", code=1)
    assert "1 done, 1 failed" in shown
    bad = next(job for job in Ledger(SWEEP).jobs() if job.state == "failed")
    assert (bad.attempts, bad.failed_tries) == (1, 1)  # F19: the loss would be infinite again
    assert "the outer loss became" in (bad.error or "")
    assert f"{SWEEP / bad.directory / 'train.log'}" in shown
    assert "the outer loss became" in said(capsys, "sweep", "show", "small", bad.directory)
    assert "1 failed for good" in said(
        capsys, *WORDS, "seed=0", "algorithm.rule.lr=0.1,1e38", "algorithm=maml", "--retries", "1", code=1
    )
    assert "1 runs are ready" in said(capsys, "sweep", "retry", "small", str(bad.number))


def test_a_dry_run_tries_one_run_of_each_kind_and_leaves_nothing(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trials are tested in tests/unit/runs/test_dry_run.py."""
    asked: list[str] = []

    def tried(identity: RunIdentity, *, in_this_process: bool) -> Trial:
        assert not in_this_process
        asked.append(identity.choices["algorithm"])
        step = {"maml": 2.0, "fomaml": 1.0}[asked[-1]]
        return Trial("loop", 10.0, (step,), 4, 0.5, 12, 1, 4, 6, False, 2**30, False)

    monkeypatch.setattr(driver, "tried", tried)
    shown = said(capsys, *WORDS, "--dry-run", "algorithm.rule.lr=0.1,0.2")
    assert asked == ["maml", "fomaml"]  # neither seeds nor rates make a kind
    assert "algorithm=fomaml,lr=0.2,seed=1" in shown
    # 10 steps after the two of the start-up: four runs of 10 + 10 * 2 + 5 s and four of 10 + 10 * 1 + 5 s
    assert "8 runs, 8 to run: about 2 min (4 min of runs, 2 at once if that slows none), up to 1.00 GiB a run" in shown
    assert "tried one of each of 2 kinds" in shown
    monkeypatch.setattr(pricing, "MOST", 1)
    assert "tried 1 of 2 kinds" in said(capsys, *WORDS, "--dry-run")
    assert not SWEEP.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["sweep", "smal", *CONF], "did you mean small"),
        (["sweep"], "name a sweep"),
        ([*WORDS, "algorithm=mmal"], "did you mean maml"),
        ([*WORDS, "trainer.max_stepz=3"], "did you mean trainer.max_steps"),
        ([*WORDS, "trainer.max_steps=many"], "trainer.max_steps"),
        ([*WORDS, "seed=interval(0,1)"], "an interval has no fixed values"),
        ([*WORDS, "hydra.run.dir=here"], "set the sweep's own with hydra.sweep.dir"),
        ([*WORDS, "trainer=gpu"], "GPUs, but there are 0"),
        ([*WORDS, "--jobs", "0"], "at least 1"),
        (["sweep", "status", "nothing"], "is not a sweep"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(words: list[str], reason: str, capsys: Captured) -> None:
    assert reason in said(capsys, *words, code=2)
    assert not list(Path().rglob("run.json"))


def test_a_multirun_is_a_sweep_that_goes_on_too(capsys: Captured) -> None:
    words = ["train", "-m", *CONF, *SMALL, "--jobs", "2", "seed=0,1"]
    assert "2: 2 to run" in said(capsys, *words)
    assert "2: 2 done already" in said(capsys, *words)
    (directory,) = Path("outputs/small").iterdir()
    assert len(list(directory.rglob("record.json"))) == 2
    assert "3: 3 to run" in said(capsys, "train", "-m", "sweep=small", *CONF, "--jobs", "2", "seed=0,1,2", "algorithm=maml")
    assert len(list(SWEEP.rglob("record.json"))) == 3


def test_a_run_that_was_cut_off_is_resumed_in_its_directory(capsys: Captured, finished_run: Path) -> None:
    """Killed after its last checkpoint, before its record."""
    said(capsys, *WORDS, "seed=0", "algorithm=maml")
    (job,) = Ledger(SWEEP).jobs()
    directory, before = SWEEP / job.directory, rows(SWEEP / job.directory / "episodes.csv")
    for name in ("record.json", "episodes.csv", "samples.npz"):
        (directory / name).unlink()
    (SWEEP / "ledger.sqlite").unlink()
    description = json.loads((directory / "run.json").read_text())
    ledger = Ledger(SWEEP)
    ledger.enter([Planned(job.key, job.overrides, description, job.directory)])
    database = __import__("sqlite3").connect(ledger.path)
    database.execute("UPDATE jobs SET state = 'running', host = ?, pid = 999999, heartbeat = 0", (os.uname().nodename,))
    database.commit()
    database.close()
    shown = said(capsys, *WORDS, "seed=0", "algorithm=maml")
    assert "1 interrupted, resumed" in shown
    assert rows(directory / "episodes.csv") == before
    assert (directory / "metrics.csv").read_text().count("\n") < 20  # not trained twice


def test_E10_finished_runs_whose_folders_are_gone_run_again_or_stay(capsys: Captured) -> None:
    said(capsys, *WORDS, "seed=0")
    first, second = Ledger(SWEEP).jobs()
    shutil.rmtree(SWEEP / first.directory)
    kept = said(capsys, *WORDS, "seed=0", "--keep")
    assert f"the records of 1 finished runs: {first.directory}" in kept
    assert "2: 2 done already" in kept
    again = said(capsys, *WORDS, "seed=0")
    assert "2: 1 to run, 1 done already" in again
    assert (SWEEP / first.directory / "record.json").exists()
    assert Ledger(SWEEP).job(second.key).attempts == 1


def test_a_record_that_was_written_before_the_ledger_heard_is_kept(capsys: Captured) -> None:
    said(capsys, *WORDS, "seed=0", "algorithm=maml")
    (job,) = Ledger(SWEEP).jobs()
    before = (SWEEP / job.directory / "record.json").read_text()
    (SWEEP / "ledger.sqlite").unlink()
    shutil.rmtree(SWEEP / job.directory / "report")
    said(capsys, *WORDS, "seed=0", "algorithm=maml")
    assert (SWEEP / job.directory / "record.json").read_text() == before
    assert (SWEEP / job.directory / "report" / "index.html").exists()  # E3


def test_cancelled_runs_wait_until_they_are_let(capsys: Captured) -> None:
    said(capsys, *WORDS, "seed=0", "algorithm=maml")
    (job,) = Ledger(SWEEP).jobs()
    shutil.rmtree(SWEEP / job.directory)
    (SWEEP / "ledger.sqlite").unlink()
    Ledger(SWEEP).enter([Planned(job.key, job.overrides, {}, job.directory)])
    assert "1 runs are cancelled" in said(capsys, "sweep", "cancel", "small")
    assert "1: 1 cancelled" in said(capsys, *WORDS, "seed=0", "algorithm=maml", code=1)


def test_what_the_server_imports_is_there() -> None:
    for name in PRELOADED:
        importlib.import_module(name)


def test_a_damaged_ledger_is_said_and_its_loss_loses_no_run(capsys: Captured) -> None:
    words = [*WORDS, "algorithm=maml"]
    said(capsys, *words)
    times = {path: path.stat().st_mtime_ns for path in sorted(SWEEP.rglob("record.json"))}
    assert len(times) == 2
    path = SWEEP / "ledger.sqlite"
    path.write_bytes(path.read_bytes()[:5000])
    for command in (words, ["sweep", "status", "small"], ["sweep", "cancel", "small"]):
        assert "Move the file away and give the sweep's command again" in said(capsys, *command, code=2)
    path.rename(SWEEP / "damaged.sqlite")
    assert "2 done" in said(capsys, *words)
    assert {path: path.stat().st_mtime_ns for path in sorted(SWEEP.rglob("record.json"))} == times
    assert all(job.result for job in Ledger(SWEEP).jobs())
