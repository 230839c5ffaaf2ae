"""The Slurm drill: a sweep on a real Slurm, of whose runs one fails, one is preempted and one runs out of time."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaloop.records.jobs import LEDGER, RUNNING, Job
from metaloop.sweeps.ledger import Ledger
from small_runs import SMALL_CONF, sweep_outcomes

TESTS = Path(__file__).parents[1]
TOOL = TESTS.parents[1] / "shared" / "tools" / "test-slurm"

pytestmark = pytest.mark.skipif(
    not (TOOL.exists() and shutil.which("slurmctld") and shutil.which("munged") and os.geteuid() == 0),
    reason="needs ../shared/tools/test-slurm, the packages slurm-wlm and munge, and root",
)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Partitions main, whose jobs are requeued when high wants their place, and high."""
    directory = tmp_path / "slurm"
    subprocess.run([TOOL, "start", directory], check=True, timeout=120)
    monkeypatch.setenv("SLURM_CONF", str(directory / "slurm.conf"))
    monkeypatch.setenv("PATH", f"{directory / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])))
    yield
    subprocess.run([TOOL, "stop", directory], check=False, timeout=120)


def command(directory: Path, *more: str) -> list[str]:
    words = ["sweep", "small", "--config-dir", str(SMALL_CONF), f"hydra.sweep.dir={directory}", "--retries", "1"]
    return [sys.executable, "-m", "metaloop", *words, "validation.every=50", *more]


ON_SLURM = (
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.partition=main",
    "hydra.launcher.timeout_min=1",
    "hydra.launcher.signal_delay_s=25",  # of the minute
    "hydra.launcher.max_num_timeout=9",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
)


def jobs(directory: Path) -> list[Job]:
    return Ledger(directory).jobs() if (directory / LEDGER).exists() else []


def wait_until(condition: object, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


@pytest.mark.usefixtures("slurm")
def test_two_runs(tmp_path: Path) -> None:
    """The short form."""
    ended = subprocess.run(command(tmp_path / "sweep", "seed=0", *ON_SLURM), capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert subprocess.run(command(tmp_path / "here", "seed=0"), timeout=400).returncode == 0
    assert sweep_outcomes(tmp_path / "sweep") == sweep_outcomes(tmp_path / "here")
    assert len(sweep_outcomes(tmp_path / "here")) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_the_drill(tmp_path: Path) -> None:
    """Seven of eight end as in an undisturbed sweep, bit for bit; the eighth fails, and is told."""
    sweep, log = tmp_path / "sweep", tmp_path / "said.txt"
    # A step takes some milliseconds: two of the runs take longer than the minute that Slurm gives them.
    points = ("algorithm=maml", "seed=0,1", "algorithm.rule.lr=0.1,0.2", "trainer.max_steps=100,9000")
    with log.open("w") as file:
        disturbed = subprocess.Popen(command(sweep, *points, *ON_SLURM), stdout=file, stderr=file)
    first = command(tmp_path / "sweep", *points, "algorithm.rule.lr=1e38", "seed=0", "trainer.max_steps=100", *ON_SLURM)
    wait_until(lambda: any(job.state == RUNNING for job in jobs(sweep)), 120, log)
    # Somebody with more right to the machine.
    subprocess.run(["sbatch", "-p", "high", "--exclusive", "-o", os.devnull, "--wrap", "sleep 15"], check=True)
    assert disturbed.wait(timeout=1500) == 0, log.read_text()
    assert subprocess.run(first, timeout=400).returncode == 1  # one more run, which fails, in the same ledger
    found = jobs(sweep)
    assert [job.state for job in found] == ["done"] * 8 + ["failed"]
    assert max(job.attempts for job in found[:8]) > 2  # preempted or out of time, and resumed
    assert found[8].attempts == 2
    assert "the outer loss became" in (found[8].error or "")
    assert subprocess.run(command(tmp_path / "here", *points, "--jobs", "2"), timeout=1500).returncode == 0
    assert sweep_outcomes(sweep) == sweep_outcomes(tmp_path / "here")
    assert len(sweep_outcomes(sweep)) == 8


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_the_tasks_of_an_array_run_a_part_each(tmp_path: Path) -> None:
    """Tasks 1 to 3 of an array divide four runs; together they are the sweep that one command runs here."""
    log = tmp_path / "task-%a.txt"
    array = ["sbatch", "--wait", "--array=1-3", "--mem=2G", "-o", str(log), "--wrap"]
    words = command(tmp_path / "sweep", "validation.every=2", "--jobs", "1", "--shard", "auto")
    ended = subprocess.run([*array, shlex.join(words)], capture_output=True, text=True, timeout=900)
    texts = [path.read_text() for path in sorted(tmp_path.glob("task-*.txt"))]
    assert ended.returncode == 0, ended.stderr + "".join(texts)
    shards = sorted(line for text in texts for line in text.splitlines() if line.startswith("shard "))
    assert [line.split()[1] for line in shards] == ["0/3:", "1/3:", "2/3:"]
    assert sum(int(line.split()[2]) for line in shards) == 4
    assert [(job.state, job.attempts) for job in jobs(tmp_path / "sweep")] == [("done", 1)] * 4
    assert subprocess.run(command(tmp_path / "here", "validation.every=2"), timeout=900).returncode == 0
    assert sweep_outcomes(tmp_path / "sweep") == sweep_outcomes(tmp_path / "here")
    assert len(sweep_outcomes(tmp_path / "sweep")) == 4
