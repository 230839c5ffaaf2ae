"""The drill: every signal to every process in every phase ends all processes, and the run goes on to the same end."""

import os
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from gated_runs import Gate, started, wait_for_end, wait_until
from held_runs import PHASES
from metaloop.system.tensors import load_checkpoint
from small_runs import SMALL, SMALL_CONF, outcome, words

STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": 137}
FAST = [("SIGKILL", "rank 1", "checkpoint")]
KINDS = {"run": ["alone"], "ranks": ["parent", "rank 0", "rank 1"], "sweep": ["sweep", "worker"]}
CASES = [
    (name, who, phase)
    for phase in PHASES
    for whos in KINDS.values()
    for who in whos
    for name in STATUS
    if (who, phase) != ("rank 1", "report")  # it has ended by then
]


def command(kind: str, directory: Path, *more: str) -> list[str]:
    if kind != "sweep":
        return words(directory, *more, *(["trainer=ddp_cpu"] if kind == "ranks" else []))
    return ["train", "-m", "--config-dir", str(SMALL_CONF), *SMALL, f"hydra.sweep.dir={directory}", "seed=0", *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    """The outcome of an undisturbed run of a kind."""

    @cache
    def made(kind: str) -> object:
        folder = tmp_path_factory.mktemp(kind)
        assert started(command(kind, folder / "run"), folder / "messages.txt").wait() == 0
        return outcome(run_of(folder / "run"))

    return made


def run_of(directory: Path) -> Path:
    (path,) = directory.rglob("run.json")
    return path.parent


def ended(process: subprocess.Popen[bytes]) -> int:
    """The status of a process as a shell shows it; nothing may take longer than the grace of the ranks and the sweep."""
    try:
        code = process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return 128 - code if code < 0 else code


@pytest.mark.parametrize(
    ("name", "who", "phase"), [pytest.param(*case, marks=() if case in FAST else pytest.mark.slow) for case in CASES]
)
def test_E6_a_stop(name: str, who: str, phase: str, whole: Callable[[str], object], tmp_path: Path) -> None:
    kind = next(kind for kind, whos in KINDS.items() if who in whos)
    directory, gate_path, messages = tmp_path / "run", tmp_path / "gate", tmp_path / "messages.txt"
    hold = f"+logger.held={{_target_:held_runs.Held,gate:{gate_path},phase:{phase}}}"
    ranks = ["0", "1"] if kind == "ranks" else ["0"]
    with Gate(gate_path, step=-1) as gate:
        process = started(command(kind, directory, hold), messages)
        marks = [Path(f"{gate_path}.at0"), *(Path(f"{gate_path}.pid{rank}") for rank in ranks)]
        wait_until(lambda: all(mark.exists() for mark in marks), process, messages)
        numbers = {f"rank {rank}": int(Path(f"{gate_path}.pid{rank}").read_text()) for rank in ranks}
        target = numbers["rank 0"] if who == "worker" else numbers.get(who, process.pid)
        os.kill(target, signal.Signals[name])
        if who == "worker":  # the sweep starts the run again
            wait_for_end([target])
            gate.open()
            assert ended(process) == 0, messages.read_text()
        else:
            assert ended(process) == STATUS[name], messages.read_text()
            gate.open()
        wait_for_end(numbers.values())
        run = run_of(directory)
        if (run / "checkpoints" / "last.ckpt").exists():
            load_checkpoint(run / "checkpoints" / "last.ckpt")
        if (kind != "sweep" and target != process.pid) or name != "SIGKILL":
            assert "Traceback" not in messages.read_text()
            assert f"metaloop train resume={directory}" in messages.read_text() or kind == "sweep"
        if who != "worker":
            again = command(kind, directory, hold) if kind == "sweep" else ["train", f"resume={directory}"]
            assert started(again, messages).wait() == 0, messages.read_text()
    assert outcome(run) == whole(kind)
    assert (run / "report" / "index.html").exists()
    assert not [path for path in run.rglob(".*") if path.name != ".lock"]
