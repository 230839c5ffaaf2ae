"""Runs of sweeps that are not in the tables, from the ledgers: failed, running, waiting, pruned, deleted."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.jobs import (
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    LEDGER,
    PRUNED,
    RUNNING,
    STATES,
    WAITING,
    Job,
    read_jobs,
)
from metaloop.records.schema import IDENTITY, RECORD
from metaloop.report.pages.unfinished import Failure, log_end, progress

DELETED = "deleted"  # done, but its folder no longer exists
_STALE = 60.0  # seconds without a heartbeat after which a running run counts as interrupted
_REASONS = {
    WAITING: "waiting: it has not been started",
    RUNNING: "still running",
    INTERRUPTED: "interrupted; give the sweep's command again to continue",
    CANCELLED: "cancelled",
    PRUNED: "pruned: the search had better runs",
    DELETED: "done, but its folder was deleted or moved, so this report lacks its score",
}


@dataclass(frozen=True)
class Sweep:
    """A sweep and the states of its runs.

    Attributes:
        folder: folder of the sweep.
        counts: number of runs by state, in the order of the states.
        missing: the runs without a record, with the reason; pruned runs are only counted.
    """

    folder: Path
    counts: dict[str, int]
    missing: Sequence[Failure]

    @property
    def text(self) -> str:
        """The counts in words, such as ``24 runs: 20 done, 1 pruned, 2 failed, 1 deleted``."""
        total = sum(self.counts.values())
        return f"{total} run{'' if total == 1 else 's'}: " + ", ".join(f"{n} {state}" for state, n in self.counts.items())


def find_sweeps(paths: Iterable[Path]) -> tuple[list[Sweep], list[Failure]]:
    """Find the sweeps in and below some directories, and the ledgers that cannot be read."""
    sweeps, failures = [], []
    ledgers = {path.resolve(): path for start in paths for path in sorted(Path(start).rglob(LEDGER))}
    for path in ledgers.values():
        try:
            sweeps.append(_sweep(path.parent, read_jobs(path.parent)))
        except UserError as error:
            failures.append(Failure(path, str(error)))
    return sweeps, failures


def _sweep(folder: Path, jobs: Sequence[Job]) -> Sweep:
    states = [(job, _state(folder, job)) for job in jobs]
    count = Counter(state for _, state in states)
    counts = {state: count[state] for state in (*STATES, DELETED) if count[state]}
    missing = [_missing(folder, job, state) for job, state in states if state not in (DONE, PRUNED)]
    return Sweep(folder, counts, missing)


def _state(folder: Path, job: Job) -> str:
    if job.state == DONE and not (folder / job.directory / RECORD).exists():
        return DELETED
    return INTERRUPTED if job.abandoned(_STALE) else job.state


def _missing(folder: Path, job: Job, state: str) -> Failure:
    path = folder / job.directory
    if not path.resolve().is_relative_to(folder.resolve()):  # a foreign ledger may name any folder
        return Failure(folder / LEDGER, f"the directory of run {job.number} is outside the sweep's folder; it is not read")
    reason = f"failed: {_first_line(job.error or 'unknown reason')}" if state == FAILED else _REASONS[state]
    if (path / IDENTITY).exists() and state != FAILED:
        reason += f" ({progress(path)})"
    return Failure(path, f"{reason}; {' '.join(job.overrides)}", log_end(path))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
