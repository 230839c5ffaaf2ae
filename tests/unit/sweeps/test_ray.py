"""Ray, where it is installed (the extra "ray"): a run whose process is killed is resumed, and so is a sweep after Ctrl-C."""

import os
import signal
from pathlib import Path

import pytest

from gated_runs import Gate, jobs, started, wait_until
from metaloop.cli.main import main
from metaloop.records.jobs import DONE, RUNNING
from small_runs import SMALL_CONF, lines_reach, sweep_outcomes

pytest.importorskip("hydra_plugins.hydra_ray_launcher")
pytest.importorskip("ray")
SMALL = ["sweep", "small", "--config-dir", str(SMALL_CONF), "algorithm=maml", "trainer.max_steps=14"]
ON_RAY = [
    "hydra/launcher=ray",
    "hydra.launcher.ray.init.address=local",
    "+hydra.launcher.ray.init.num_cpus=2",
    "+hydra.launcher.ray.init.include_dashboard=false",
]


def test_kill_9_and_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory, messages = tmp_path / "sweep", tmp_path / "messages.txt"
    with Gate(tmp_path / "gate", step=10) as gate:
        words = [*SMALL, gate.override, f"hydra.sweep.dir={directory}", *ON_RAY]
        sweep = started(words, messages)
        wait_until(lambda: any(job.state == RUNNING for job in jobs(directory)), sweep, messages)
        first = next(job for job in jobs(directory) if job.state == RUNNING)
        wait_until(lines_reach(directory / first.directory / "metrics.csv", 4), sweep, messages)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: jobs(directory)[first.number].attempts == 2, sweep, messages)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait() == 130, messages.read_text()
        assert "run the same command to resume" in messages.read_text()
        assert any(job.state != DONE for job in jobs(directory))
        gate.open()
        assert started(words, messages).wait() == 0, messages.read_text()
        assert [job.state for job in jobs(directory)] == [DONE, DONE]
        assert main([*SMALL, gate.override, "hydra.sweep.dir=here"]) == 0
    assert sweep_outcomes(directory) == sweep_outcomes(tmp_path / "here")
