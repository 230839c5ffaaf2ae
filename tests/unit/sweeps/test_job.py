"""A run of a sweep whose directory another process uses, whose disk is full, or that is refused."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import Pipe
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.records.directory import InUse, claimed
from metaloop.records.jobs import DONE, INTERRUPTED, WAITING, Job
from metaloop.sweeps.launch import job as module
from metaloop.sweeps.launch import local
from metaloop.sweeps.launch.devices import Machine, Needs
from metaloop.sweeps.launch.job import run_job
from metaloop.sweeps.ledger import Ledger, Planned, runnable
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


class _Ended:
    """A process that has ended with an error."""

    exitcode, pid = 2, -1

    def __init__(self) -> None:
        self.sentinel, other = Pipe(duplex=False)
        other.close()

    def is_alive(self) -> bool:
        return False

    def join(self) -> None:
        return


def test_E2_a_full_disk_is_no_failure_of_a_run_and_pauses_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "sweep")
    ledger.enter([Planned(f"key{number}", (), {}, f"run{number}") for number in range(2)])

    def start_on_a_full_disk(*arguments: object, **named: object) -> None:
        raise UserError("no checkpoint") from OSError(errno.ENOSPC, "No space left on device", "last.ckpt")

    def begin(processes: local.LocalProcesses, job: Job, devices: object, pack: object) -> _Ended:
        with pytest.raises(UserError):
            run_job(ledger, job.key, "cpu", 0)
        return _Ended()

    monkeypatch.setattr(Ledger, "identity", lambda self, key: None)
    monkeypatch.setattr(module, "start", start_on_a_full_disk)
    monkeypatch.setattr(local.LocalProcesses, "_process", begin)
    needs = {f"key{number}": Needs(0, 1) for number in range(2)}
    with pytest.raises(UserError, match=r"run0 was stopped: the disk is full while writing last\.ckpt .*repeat the command"):
        local.run_locally(ledger, lambda _: needs, Machine((), 1, 1, 1), 0, lambda job: None)
    first, second = ledger.jobs()
    assert (first.state, first.failures, second.attempts) == (INTERRUPTED, 0, 0)
    assert runnable(first, ledger.stale, 0)


def test_B2_the_error_of_a_run_that_changed_data_ended_says_how_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **named: object) -> None:
        raise UserError("the data set has changed")

    ledger = Ledger(tmp_path / "sweep")
    ledger.enter([Planned("key0", (), {}, "run0")])
    monkeypatch.setattr(Ledger, "identity", lambda self, key: None)
    monkeypatch.setattr(module, "start", refused)
    with pytest.raises(UserError, match="changed"):
        run_job(ledger, "key0", "", 2)
    assert ledger.job("key0").error is not None
    assert f"metaloop sweep retry {ledger.directory}" in ledger.job("key0").error
