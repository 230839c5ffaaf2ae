"""The Ray drill, where Ray is installed (the extra "ray"): workers are killed, and a sweep is interrupted."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gated_runs import Gate, jobs, started, wait_until
from metaloop.cli.main import main
from metaloop.records.jobs import DONE, RUNNING, Job
from small_runs import SMALL_CONF, lines_reach, sweep_outcomes

pytest.importorskip("ray", reason="needs Ray: pip install 'metaloop[ray]'")
pytestmark = pytest.mark.slow
RAY = shutil.which("ray", path=str(Path(sys.executable).parent))
STEP = 10  # where runs wait
_STARTS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of one machine with two CPUs, of its own processes and ports."""
    assert RAY is not None
    folder, messages = Path("/tmp") / f"ray-{os.getpid()}", tmp_path_factory.mktemp("ray") / "messages.txt"
    address = folder / "ray_current_cluster"  # below a short path, because those of Ray's sockets must be short
    start = [RAY, "start", "--head", "--block", "--port=0", "--num-cpus=2", "--object-store-memory=100000000"]
    start += [f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats"]
    for attempt in range(_STARTS):  # Ray gives itself half a minute, which a busy machine may exceed
        with messages.open("w") as file:
            ray = subprocess.Popen(start, stdout=file, stderr=file)
        try:
            wait_until(address.exists, ray, messages)
            break
        except AssertionError:
            if attempt == _STARTS - 1:
                raise
    yield address.read_text().strip()
    ray.terminate()
    ray.wait()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def _on_the_cluster(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.chdir(tmp_path)


def command(directory: Path, seeds: int, gate: Gate, *more: str) -> list[str]:
    own = ["trainer.max_steps=14", gate.override, f"seed=range({seeds})", f"hydra.sweep.dir={directory}"]
    return ["sweep", "small", "--config-dir", str(SMALL_CONF), "--retries", "2", *own, *more]


def begun(directory: Path) -> list[Job]:
    """Runs in their first attempt that have a checkpoint."""
    first = [job for job in jobs(directory) if job.state == RUNNING and job.attempts == 1]
    return [job for job in first if lines_reach(directory / job.directory / "metrics.csv", 4)()]


@pytest.mark.usefixtures("_on_the_cluster")
def test_two_of_twelve_workers_are_killed_and_the_results_are_those_of_a_local_sweep(tmp_path: Path) -> None:
    directory, messages = tmp_path / "sweep", tmp_path / "messages.txt"
    with Gate(tmp_path / "gate", STEP) as gate:
        sweep = started(command(directory, 6, gate, "launcher=ray"), messages)
        for kills in (1, 2):
            wait_until(lambda: begun(directory), sweep, messages)
            victim = begun(directory)[0]
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            wait_until(lambda kills=kills: sum(job.failures for job in jobs(directory)) == kills, sweep, messages)
            gate.let_waiting_pass()  # Ray starts the run again after those that it had before
        gate.open()
        assert sweep.wait() == 0, messages.read_text()
        assert [job.state for job in jobs(directory)] == [DONE] * 12
        assert sorted(job.attempts for job in jobs(directory)) == [1] * 10 + [2] * 2
        assert sorted(job.failures for job in jobs(directory)) == [0] * 10 + [1] * 2
        assert main(command(tmp_path / "here", 6, gate, "--jobs", "2")) == 0
    assert sweep_outcomes(directory) == sweep_outcomes(tmp_path / "here")
    assert len(sweep_outcomes(directory)) == 12


@pytest.mark.usefixtures("_on_the_cluster")
def test_ctrl_c_ends_the_tasks_and_the_same_command_goes_on(tmp_path: Path) -> None:
    directory, messages = tmp_path / "sweep", tmp_path / "messages.txt"
    with Gate(tmp_path / "gate", STEP) as gate:
        sweep = started(command(directory, 1, gate, "launcher=ray"), messages)
        wait_until(lambda: any(job.state == RUNNING for job in jobs(directory)), sweep, messages)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait() == 130, messages.read_text()
        assert "run the same command to resume" in messages.read_text()
        assert {job.state for job in jobs(directory)} <= {"interrupted", "waiting"}
        gate.open()
        assert started(command(directory, 1, gate, "launcher=ray"), messages).wait() == 0, messages.read_text()
        assert [job.state for job in jobs(directory)] == [DONE, DONE]
        assert main(command(tmp_path / "here", 1, gate)) == 0
    assert sweep_outcomes(directory) == sweep_outcomes(tmp_path / "here")
