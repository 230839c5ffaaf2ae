"""Rows of a sweep's ledger: the states of a run, one row as typed data, and a read-only reader."""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.typed_json import decode

LEDGER = "ledger.sqlite"  # in the sweep's folder
LEDGER_VERSION = 1  # PRAGMA user_version of the file
LOG = "train.log"  # in a run's directory
WAITING, RUNNING, INTERRUPTED, DONE, FAILED, CANCELLED = "waiting", "running", "interrupted", "done", "failed", "cancelled"
PRUNED = "pruned"  # stopped for good because the search had better runs
PACK = "METALOOP_PACK"  # variable of a run's process: the socket of the runs that are computed together with it
FINAL = 1_000_000  # failures of a run that is not tried again, whatever --retries says
STATES = (WAITING, RUNNING, INTERRUPTED, DONE, PRUNED, FAILED, CANCELLED)


@dataclass(frozen=True)
class Job:
    """One run of a sweep, as stored in the ledger.

    Attributes:
        key: hash of the resolved config.
        number: its position in the sweep.
        overrides: the overrides that the run was composed from.
        directory: the run's directory, relative to the ledger's.
        state: one of ``STATES``.
        attempts: how often the run was started.
        failures: how often it ended with an error; `FINAL` or more after one that would come again.
        host, pid, device: where it runs or last ran.
        started, heartbeat, ended: seconds since 1970.
        seconds: total running time of all attempts.
        result: scores of its meta-test and meta-validation, once done; see :func:`metaloop.sweeps.ledger.result_of`.
        error: the last lines of its log, if it failed; what the disk said, if that interrupted it.
        owner: the attempt that owns it; see :meth:`metaloop.sweeps.ledger.Ledger.claim`.
    """

    key: str
    number: int
    overrides: tuple[str, ...]
    directory: str
    state: str
    attempts: int
    failures: int
    host: str | None
    pid: int | None
    device: str | None
    started: float | None
    heartbeat: float | None
    ended: float | None
    seconds: float
    result: Mapping[str, Any] | None
    error: str | None
    owner: str | None = None

    @property
    def failed_tries(self) -> int:
        """How often it ended with an error, of whatever kind."""
        return self.failures // FINAL + self.failures % FINAL

    def check_space(self) -> None:
        """Raise a UserError if the run was interrupted by a full disk, which the other runs will meet, too."""
        if self.state == INTERRUPTED and self.error:
            raise UserError(
                f"{self.directory} was stopped: {self.error}. Free some space and repeat the command: unfinished runs go on "
                f"from their last checkpoints"
            )

    def abandoned(self, stale: float) -> bool:
        """Whether the ledger says that the run is running, but it is not.

        Its process is gone or, on another machine, its last heartbeat is more than ``stale`` seconds old. A process of this
        machine counts as long as it lives, even if it is suspended.
        """
        if self.state != RUNNING:
            return False
        if self.host == socket.gethostname() and self.pid is not None:
            return not (alive(self.pid) and self._is_owner(self.pid))
        return time.time() - (self.heartbeat or 0) > stale

    def _is_owner(self, pid: int) -> bool:
        """Whether the process that has this number now is the one that claimed the run, as far as one can tell."""
        parts = (self.owner or "").rsplit(":", 3)
        start = started_at(pid)
        return len(parts) < 4 or not parts[2] or not start or parts[2] == start


COLUMNS = tuple(Job.__dataclass_fields__)


class TornRow(Exception):
    """A ledger row that cannot be read."""


def job_of(row: Sequence[Any]) -> Job:
    """Build a job from the values of its ``COLUMNS``.

    Raises:
        TornRow: a value cannot be parsed.
    """
    values = dict(zip(COLUMNS, row, strict=True))
    try:
        values |= {"overrides": json.loads(values["overrides"]), "result": json.loads(values["result"] or "null")}
        job = decode(Job, values, "the ledger")
    except (ValueError, TypeError, RecursionError) as error:
        raise TornRow(f"the row of run {values['number']!r} cannot be parsed") from error
    if job.state not in STATES:
        raise TornRow(f"the row of run {job.number} has the state {job.state!r}")
    return job


def read_jobs(folder: Path) -> list[Job]:
    """Read all runs of a sweep in their order, without changing the file.

    Raises:
        UserError: the ledger cannot be read, or is of another version.
    """
    path = folder / LEDGER
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version != LEDGER_VERSION:
                raise UserError(f"{path} is of version {version}, this metaloop reads version {LEDGER_VERSION}")
            return [job_of(row) for row in database.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs ORDER BY number")]
        finally:
            database.close()
    except (sqlite3.Error, TornRow, UnicodeDecodeError) as error:
        raise UserError(f"the sweep's ledger {path} cannot be read: {error}") from error


def alive(pid: int) -> bool:
    """Whether a process of this machine exists and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    fields = _stat(pid)
    return not fields or fields[0] != "Z"  # a zombie has ended; its parent has not collected it yet


def started_at(pid: int) -> str:
    """When a process of this machine started, in ticks since the machine did; empty where the system does not tell."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on; none where there is no such file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
