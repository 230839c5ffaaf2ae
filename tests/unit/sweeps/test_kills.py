"""Sweeps whose processes are killed or interrupted end as an undisturbed one does."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gated_runs import Gate, jobs, started, wait_until
from metaloop.cli.main import main
from metaloop.records.jobs import DONE, RUNNING
from metaloop.sweeps.ledger import Ledger
from small_runs import SMALL_CONF, lines_reach, sweep_outcomes

STEP = 10  # where runs wait


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.chdir(tmp_path)
    with Gate(tmp_path / "gate", STEP) as gate:
        yield gate


def command(directory: Path, seeds: int, gate: Gate) -> list[str]:
    own = ["trainer.max_steps=14", gate.override, f"seed={','.join(map(str, range(seeds)))}", f"hydra.sweep.dir={directory}"]
    return ["sweep", "small", "--config-dir", str(SMALL_CONF), "--jobs", "2", "--retries", "9", *own]


def running(directory: Path, rows: int = 0) -> list[int]:
    """Processes of the runs that have logged so many outer steps."""
    alive = [job for job in jobs(directory) if job.state == RUNNING and job.pid and not job.abandoned(60)]
    return [job.pid for job in alive if job.pid and lines_reach(directory / job.directory / "metrics.csv", rows)()]


@pytest.mark.parametrize(
    ("seeds", "kills"), [(1, 2), pytest.param(2, 2, marks=pytest.mark.slow), pytest.param(12, 5, marks=pytest.mark.slow)]
)
def test_kill_9_of_the_launcher_and_of_workers(seeds: int, kills: int, tmp_path: Path, gate: Gate) -> None:
    moments, disturbed, messages = random.Random(seeds), tmp_path / "disturbed", tmp_path / "messages.txt"
    sweep, first_seen = started(command(disturbed, seeds, gate), messages), {}
    for kill in range(kills):
        reached = moments.randrange(STEP)
        wait_until(lambda reached=reached: running(disturbed, reached), sweep, messages)
        if kill % 2 == 0:  # the sweep's own process; its runs live on
            sweep.kill()
            sweep.wait()
            sweep = started(command(disturbed, seeds, gate), messages)
        else:
            with suppress(ProcessLookupError, IndexError):
                os.kill(running(disturbed, reached)[0], signal.SIGKILL)
            gate.let_waiting_pass()
        first_seen |= {path: path.stat().st_mtime_ns for path in disturbed.rglob("record.json") if path not in first_seen}
    gate.open()
    assert sweep.wait() == 0, messages.read_text()
    assert [job.state for job in Ledger(disturbed).jobs()] == [DONE] * (2 * seeds)
    assert len(list(disturbed.rglob("record.json"))) == 2 * seeds
    assert all(path.stat().st_mtime_ns == written for path, written in first_seen.items())  # none was done twice
    assert main(command(tmp_path / "undisturbed", seeds, gate)) == 0
    assert sweep_outcomes(disturbed) == sweep_outcomes(tmp_path / "undisturbed")


def test_D1_ctrl_c_stops_all_and_the_same_command_goes_on(tmp_path: Path, gate: Gate) -> None:
    directory, messages = tmp_path / "sweep", tmp_path / "messages.txt"
    sweep = started(command(directory, 1, gate), messages)
    wait_until(lambda: running(directory, STEP), sweep, messages)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait() == 130
    assert "run the same command to resume" in messages.read_text()
    assert {job.state for job in jobs(directory)} <= {"interrupted", "waiting"}
    assert not running(directory)
    gate.open()
    assert main(command(directory, 1, gate)) == 0
    assert {job.state for job in jobs(directory)} == {DONE}
