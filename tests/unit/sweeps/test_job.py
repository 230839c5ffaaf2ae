"""A run of a sweep whose directory another process uses."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.records.directory import InUse, claimed
from metaloop.records.jobs import DONE, INTERRUPTED, WAITING, Job
from metaloop.sweeps.launch import job as module
from metaloop.sweeps.launch.job import run_job
from metaloop.sweeps.ledger import Ledger, Planned
from small_runs import SMALL, SMALL_CONF


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A sweep of one run, in whose directory another process runs."""
    ledger = Ledger(tmp_path / "sweep")
    ledger.enter([Planned("key0", (), {}, "run0")])
    with claimed(ledger.directory / "run0"):
        yield ledger


def test_E15_a_directory_in_use_costs_no_try(ledger: Ledger) -> None:
    assert run_job(ledger, "key0", "", 0) is None
    assert (ledger.job("key0").state, ledger.job("key0").attempts) == (WAITING, 0)


def test_E15_a_directory_that_is_taken_at_the_same_time_is_no_failure(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*arguments: object, **named: object) -> None:
        raise InUse("another process is running")

    monkeypatch.setattr(Ledger, "held", lambda self, job: False)
    monkeypatch.setattr(Ledger, "identity", lambda self, key: None)
    monkeypatch.setattr(module, "start", taken)
    assert run_job(ledger, "key0", "", 0) is None
    assert (ledger.job("key0").state, ledger.job("key0").failures) == (INTERRUPTED, 0)


def test_E15_a_sweep_waits_for_the_process_that_uses_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, other, looks, held = tmp_path / "sweep", ExitStack(), [], Ledger.held

    def look(self: Ledger, job: Job) -> bool:
        if not looks:
            other.enter_context(claimed(self.directory / job.directory))
        looks.append(held(self, job))
        if len(looks) == 2:
            other.close()
        return looks[-1]

    monkeypatch.setattr(Ledger, "held", look)
    argv = ["train", "-m", "--config-dir", str(SMALL_CONF), *SMALL, f"hydra.sweep.dir={directory}", "seed=0"]
    assert main(argv) == 0
    assert looks == [True, True, False]
    (job,) = Ledger(directory).jobs()
    assert (job.state, job.attempts) == (DONE, 1)
