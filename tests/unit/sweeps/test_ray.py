"""Ray, where it is installed (the extra "ray"): a run whose process is killed is resumed, and so is a sweep after Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.sweeps.ledger import DONE, NAME, RUNNING, Job, Ledger
from small_runs import SMALL_CONF, lines_reach, sweep_outcomes

pytest.importorskip("hydra_plugins.hydra_ray_launcher")
pytest.importorskip("ray")
TESTS = Path(__file__).parents[2]
SMALL = ["sweep", "small", "--config-dir", str(SMALL_CONF), "algorithm=maml", "trainer.max_steps=100"]
ON_RAY = [
    "hydra/launcher=ray",
    "hydra.launcher.ray.init.address=local",
    "+hydra.launcher.ray.init.num_cpus=2",
    "+hydra.launcher.ray.init.include_dashboard=false",
]


def started(directory: Path, said: Path) -> subprocess.Popen[bytes]:
    with said.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "metaloop", *SMALL, f"hydra.sweep.dir={directory}", *ON_RAY],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))},
        )


def jobs(directory: Path) -> list[Job]:
    return Ledger(directory).jobs() if (directory / NAME).exists() else []


def wait_for(condition: Callable[[], bool], sweep: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert sweep.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)


def test_kill_9_and_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory, said = tmp_path / "sweep", tmp_path / "said.txt"
    sweep = started(directory, said)
    wait_for(lambda: any(job.state == RUNNING for job in jobs(directory)), sweep, said)
    first = next(job for job in jobs(directory) if job.state == RUNNING)
    wait_for(lines_reach(directory / first.directory / "metrics.csv", 4), sweep, said)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: jobs(directory)[first.number].attempts == 2, sweep, said)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(timeout=120) == 130, said.read_text()
    assert "the same command goes on" in said.read_text()
    assert any(job.state != DONE for job in jobs(directory))
    again = started(directory, said)
    assert again.wait(timeout=400) == 0, said.read_text()
    assert [job.state for job in jobs(directory)] == [DONE, DONE]
    assert main([*SMALL, "hydra.sweep.dir=here"]) == 0
    assert sweep_outcomes(directory) == sweep_outcomes(tmp_path / "here")
