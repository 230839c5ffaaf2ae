"""Runs whose processes wait at a gate in a phase that a test names."""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

import torch

from metaloop.report.pages import run_report
from metaloop.tracking.tracker import RunInfo, Tracker
from metaloop.training.outer_module import OuterModule

# For each phase the function whose Nth call waits. A checkpoint's second call comes while its temporary file is open.
PHASES: Mapping[str, tuple[Any, str, int]] = {
    "start": (OuterModule, "configure_optimizers", 1),
    "training": (OuterModule, "training_step", 4),
    "validation": (OuterModule, "validation_step", 2),
    "checkpoint": (torch, "save", 2),
    "meta-test": (OuterModule, "test_step", 1),
    "report": (run_report, "write_run_report", 1),
}


class Held(Tracker):
    """Holds each process of the run in ``phase`` until somebody opens the FIFO ``gate``, and says so in ``gate.atRANK``.

    The number of the process is in ``gate.pidRANK``.
    """

    def __init__(self, gate: str, phase: str) -> None:
        rank = os.environ.get("RANK", "0")
        Path(f"{gate}.pid{rank}").write_text(str(os.getpid()))
        owner, name, call = PHASES[phase]
        setattr(owner, name, _holding(vars(owner)[name], call, Path(gate), Path(f"{gate}.at{rank}")))

    def start(self, run: RunInfo) -> None:
        pass

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        pass


def _holding(function: Callable[..., Any], call: int, gate: Path, at: Path) -> Callable[..., Any]:
    calls = count(1)

    @wraps(function)
    def held(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            at.touch()
            gate.open("rb").close()
        return function(*arguments, **named)

    return held
