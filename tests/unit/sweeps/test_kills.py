"""Sweeps whose processes are killed at random moments end as an undisturbed one does."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.sweeps.ledger import DONE, NAME, RUNNING, Ledger
from small_runs import SMALL_CONF, sweep_outcomes

TESTS = Path(__file__).parents[2]
STEPS = "trainer.max_steps=60"


def command(directory: Path, seeds: int) -> list[str]:
    rest = ["--jobs", "2", "--retries", "9", STEPS, f"seed={','.join(map(str, range(seeds)))}", f"hydra.sweep.dir={directory}"]
    return ["sweep", "small", "--config-dir", str(SMALL_CONF), *rest]


def started(directory: Path, seeds: int, said: Path) -> subprocess.Popen[bytes]:
    with said.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "metaloop", *command(directory, seeds)],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )


def running(directory: Path) -> list[int]:
    jobs = Ledger(directory).jobs() if (directory / NAME).exists() else []
    return [job.pid for job in jobs if job.state == RUNNING and job.pid and not job.abandoned(60)]


@pytest.mark.parametrize(("seeds", "kills"), [(2, 2), pytest.param(12, 5, marks=pytest.mark.slow)])
def test_kill_9_of_the_launcher_and_of_workers(seeds: int, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    moments, disturbed = random.Random(seeds), tmp_path / "disturbed"
    said = tmp_path / "said.txt"
    sweep, first_seen = started(disturbed, seeds, said), {}
    for kill in range(kills):
        deadline = time.monotonic() + 120
        while not running(disturbed):
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 1.5))
        if kill % 2 == 0:  # the sweep's own process; its runs live on
            sweep.kill()
            sweep.wait()
            sweep = started(disturbed, seeds, said)
        else:
            with suppress(ProcessLookupError, IndexError):
                os.kill(running(disturbed)[0], signal.SIGKILL)
        first_seen |= {path: path.stat().st_mtime_ns for path in disturbed.rglob("record.json") if path not in first_seen}
    assert sweep.wait(timeout=900) == 0, said.read_text()
    jobs = Ledger(disturbed).jobs()
    assert [job.state for job in jobs] == [DONE] * (2 * seeds)
    assert len(list(disturbed.rglob("record.json"))) == 2 * seeds
    assert all(path.stat().st_mtime_ns == written for path, written in first_seen.items())  # none was done twice
    assert main(command(tmp_path / "undisturbed", seeds)) == 0
    assert sweep_outcomes(disturbed) == sweep_outcomes(tmp_path / "undisturbed")


def test_ctrl_c_stops_all_and_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = tmp_path / "said.txt"
    sweep = started(tmp_path / "sweep", 1, said)
    while not running(tmp_path / "sweep"):
        assert sweep.poll() is None, said.read_text()
        time.sleep(0.05)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(timeout=60) == 130
    assert "the same command goes on" in said.read_text()
    assert {job.state for job in Ledger(tmp_path / "sweep").jobs()} <= {"interrupted", "waiting", "done"}
    assert not running(tmp_path / "sweep")
    assert main(command(tmp_path / "sweep", 1)) == 0
    assert {job.state for job in Ledger(tmp_path / "sweep").jobs()} == {DONE}
