"""Runs without a record: their progress, and the end of their logs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.directory import LOCK
from metaloop.records.jobs import LOG
from metaloop.records.schema import IDENTITY, RECORD
from metaloop.records.typed_json import read_object
from metaloop.system.files import is_locked

_LINES, _BYTES = 15, 8000  # of a log: lines shown, bytes read


@dataclass(frozen=True)
class Failure:
    """A run or file that is not in the tables.

    Attributes:
        path: path of the run or the file.
        reason: why it is not in the tables.
        log: the last lines of its log; empty without a log.
    """

    path: Path
    reason: str
    log: str = ""


def find_unfinished(paths: Iterable[Path]) -> list[Failure]:
    """Find the runs in and below some directories that were started and have no record, in the order of their paths."""
    runs = {file.parent.resolve(): file.parent for start in paths for file in sorted(Path(start).rglob(IDENTITY))}
    return [Failure(path, _state(path), log_end(path)) for path in runs.values() if not (path / RECORD).exists()]


def log_end(directory: Path) -> str:
    """Last lines of a run's log."""
    if not (directory / LOG).is_file():
        return ""
    try:
        with (directory / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LINES:])


def _state(directory: Path) -> str:
    """State of a run without a record. A running one holds its directory's lock."""
    done = progress(directory)
    if is_locked(directory / LOCK):
        return f"still running ({done})"
    advice = f"; continue with metaloop train resume={directory}" if (directory / LOCK).is_file() else ""
    return f"no record: not finished ({done}){advice}"


def progress(directory: Path) -> str:
    """Progress of a run without a record, in words."""
    try:
        steps = read_object(directory / IDENTITY, "run description")["config"]["trainer"]["max_steps"]
    except (UserError, KeyError, TypeError):
        steps = None
    of = f" of {steps:,}" if isinstance(steps, int) else ""
    reached = _last_step(directory / "metrics.csv")
    return "nothing was logged yet" if reached is None else f"last row of metrics.csv: outer step {reached:,}{of}"


def _last_step(metrics: Path) -> int | None:
    if not metrics.is_file():
        return None
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _BYTES))
            return int(float(file.read().decode(errors="replace").splitlines()[-1].split(",")[0]))
    except (OSError, ValueError, IndexError):
        return None
