"""Runs in other processes that wait at a gate until a test opens it, so that no test waits by the clock."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metaloop.records.jobs import LEDGER, Job, alive
from metaloop.sweeps.ledger import Ledger
from metaloop.tracking.tracker import RunInfo, Tracker

TESTS = Path(__file__).parent


class Waiting(Tracker):
    """Holds its run at an outer step: opening a FIFO for reading blocks until somebody opens it for writing."""

    def __init__(self, gate: str, step: int) -> None:
        self.gate, self.step = gate, step

    def start(self, run: RunInfo) -> None:
        pass

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self.step:
            Path(self.gate).open("rb").close()

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        pass


class Gate:
    """The test's end of the FIFO; leaving the context releases all runs that still wait."""

    def __init__(self, path: Path, step: int) -> None:
        os.mkfifo(path)
        self.path, self._open = path, -1
        self.override = f"+logger.gate={{_target_:gated_runs.Waiting,gate:{path},step:{step}}}"

    def let_waiting_pass(self) -> None:
        """Release the runs that wait at the gate now."""
        with suppress(OSError):  # no run waits
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))

    def open(self) -> None:
        """Release all runs, now and later."""
        self._open = os.open(self.path, os.O_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.path.unlink()
        if self._open < 0:
            self.let_waiting_pass()
        else:
            os.close(self._open)


def started(words: list[str], messages: Path) -> subprocess.Popen[bytes]:
    """Start ``metaloop`` with these arguments in a new process; its output is added to ``messages``."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    with messages.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "metaloop", *words],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": path},
            preexec_fn=hear_ctrl_c,
        )


def hear_ctrl_c() -> None:
    """Restore SIGINT, which a shell ignores in background jobs and their children; the tests may run in such a job."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def jobs(directory: Path) -> list[Job]:
    """List the jobs of a sweep, which may not have begun."""
    return Ledger(directory).jobs() if (directory / LEDGER).exists() else []


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes], messages: Path) -> None:
    """Return as soon as ``condition`` holds; fail if the process ends before."""
    while not condition():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            raise AssertionError(f"the process ended first: {messages.read_text()}")


def wait_for_end(numbers: Iterable[int]) -> None:
    """Return as soon as none of these processes is left, or only as a zombie that nobody has collected."""
    for number in numbers:
        while alive(number):
            os.sched_yield()
