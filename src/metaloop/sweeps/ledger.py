"""The states of a sweep's runs, in one SQLite file that all its processes share.

A run is identified by the hash of its resolved config. No connection is kept open, and each change is one transaction, so a
process can be killed at any moment. File locks, instead of a write-ahead log, also work on network file systems.
"""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.directory import LOCK
from metaloop.records.jobs import (
    CANCELLED,
    COLUMNS,
    DONE,
    FAILED,
    FINAL,
    INTERRUPTED,
    LEDGER,
    LEDGER_VERSION,
    PRUNED,
    RUNNING,
    WAITING,
    Job,
    TornRow,
    job_of,
    started_at,
)
from metaloop.records.schema import Record, RunIdentity
from metaloop.records.typed_json import decode
from metaloop.system.files import is_locked

LOG_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"
BEAT = 5.0  # seconds between two heartbeats of a run
_TIMEOUT = 60.0  # seconds to wait for the transaction of another process

_TABLE = """CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, overrides TEXT NOT NULL, description TEXT NOT NULL, directory TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, failures INTEGER NOT NULL, owner TEXT, host TEXT, pid INTEGER, device TEXT,
    started REAL, heartbeat REAL, ended REAL, seconds REAL NOT NULL, result TEXT, error TEXT)"""


@dataclass(frozen=True)
class Planned:
    """A run to enter into the ledger; see :class:`Job`. ``description`` is the content of its run.json."""

    key: str
    overrides: tuple[str, ...]
    description: Mapping[str, Any]
    directory: str


class Ledger:
    """The ledger of the sweep in ``directory``.

    Args:
        directory: folder of the sweep.
        stale: seconds without a heartbeat after which another process may take over a run.

    Raises:
        UserError: (all methods) the file cannot be read or written, or has another version.
    """

    def __init__(self, directory: Path, stale: float = 60.0) -> None:
        self.directory = directory
        self.stale = stale
        self.path = directory / LEDGER

    def enter(self, planned: Sequence[Planned]) -> None:
        """Add the runs that are not in the ledger yet."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the sweep's folder cannot be created: {error}; set another hydra.sweep.dir") from error
        with self._transaction(make=True) as database:
            known = database.execute("SELECT COUNT(*) FROM jobs").fetchone()[0]
            for one in planned:
                row = (one.key, known, json.dumps(one.overrides), json.dumps(one.description), one.directory, WAITING)
                added = database.execute(
                    "INSERT OR IGNORE INTO jobs (key, number, overrides, description, directory, state, attempts, failures, "
                    "seconds) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0)",
                    row,
                )
                known += added.rowcount

    def jobs(self) -> list[Job]:
        """All runs in the order of the sweep."""
        with self._transaction("DEFERRED") as database:
            rows = database.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs ORDER BY number").fetchall()
            jobs = [job_of(row) for row in rows]
        for job in jobs:
            self._check_directory(job)
        return jobs

    def _check_directory(self, job: Job) -> None:
        """Refuse a ledger from elsewhere that would make runs write outside the sweep's folder."""
        root, path = self.directory.resolve(), (self.directory / job.directory).resolve()
        if path == root or not path.is_relative_to(root):
            raise UserError(
                f"the ledger {self.path} puts run {job.number} into {job.directory!r}, outside of the sweep's folder; nothing "
                f"of it was run. If the folder was moved, move its links too; a ledger from elsewhere is better not used"
            )

    def job(self, key: str) -> Job:
        """The run with this key.

        Raises:
            UserError: there is no such run.
        """
        job = next((job for job in self.jobs() if job.key == key), None)
        if job is None:
            raise UserError(f"{self.path} has no run {key}")
        return job

    def identity(self, key: str) -> RunIdentity:
        """The content of a run's run.json, which exists once the run has started.

        Raises:
            UserError: the config is not the one whose hash is the key, so somebody changed the ledger.
        """
        from metaloop.config.identity import fingerprint  # imports omegaconf, for which help should not wait

        with self._transaction("DEFERRED") as database:
            row = database.execute("SELECT description FROM jobs WHERE key = ?", (key,)).fetchone()
        try:
            identity = decode(RunIdentity, json.loads(row[0]), str(self.path))
            same = fingerprint(identity.config) == key
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"the ledger {self.path} holds no readable config of the run {key} ({error})") from error
        if not same:
            raise UserError(
                f"the ledger {self.path} holds another config for the run {key} than this sweep composed, so it was changed; "
                f"nothing of it was run. Give the sweep another folder with hydra.sweep.dir"
            )
        return identity

    def claim(self, key: str, device: str, retries: int) -> str | None:
        """Claim a run that is waiting, interrupted, abandoned, or failed at most ``retries`` times.

        Returns:
            The proof of ownership that :meth:`beat` and :meth:`end` need; None if the run cannot be claimed.
        """
        owner = f"{socket.gethostname()}:{os.getpid()}:{started_at(os.getpid())}:{time.time_ns()}"
        with self._transaction() as database:
            row = database.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs WHERE key = ?", (key,)).fetchone()
            if row is None or not runnable(job_of(row), self.stale, retries):
                return None
            now = time.time()
            database.execute(
                "UPDATE jobs SET state = ?, attempts = attempts + 1, owner = ?, host = ?, pid = ?, device = ?, started = ?, "
                "heartbeat = ?, ended = NULL, error = NULL WHERE key = ?",
                (RUNNING, owner, socket.gethostname(), os.getpid(), device, now, now, key),
            )
        return owner

    def beat(self, key: str, owner: str) -> bool:
        """Record a heartbeat. Return False if the run was cancelled or taken over and must stop."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET heartbeat = ? WHERE key = ? AND owner = ? AND state = ?", (time.time(), key, owner, RUNNING)
            )
        return changed.rowcount == 1

    def end(
        self,
        key: str,
        owner: str,
        state: str,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        final: bool = False,
    ) -> bool:
        """Record how an attempt ended. Return False, without a change, if the caller no longer owns the run.

        ``final`` tells of an error that would come again, so that the run is not tried again until somebody asks for it.
        """
        now = time.time()
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE jobs SET state = ?, result = ?, error = ?, ended = ?, heartbeat = ?, failures = failures + ?, "
                "seconds = seconds + MAX(0, ? - started), owner = NULL WHERE key = ? AND owner = ? AND state = ?",
                (
                    state,
                    json.dumps(result) if result else None,
                    error,
                    now,
                    now,
                    (FINAL if final else 1) if state == FAILED else 0,
                    now,
                    key,
                    owner,
                    RUNNING,
                ),
            )
        return changed.rowcount == 1

    def held(self, job: Job) -> bool:
        """Whether some process works in the run's directory, whatever the ledger says about it."""
        return is_locked(self.directory / job.directory / LOCK)

    def bury(self, key: str, pid: int, state: str, error: str | None = None) -> None:
        """Record how a process of this machine ended, unless the process did so itself."""
        self._bury("key = ? AND pid = ? AND host = ?", (key, pid, socket.gethostname()), state, error)

    def lose(self, key: str, attempt: int, state: str, error: str | None = None) -> None:
        """Record how attempt number ``attempt`` ended on whatever machine, unless it did so itself."""
        self._bury("key = ? AND attempts = ?", (key, attempt), state, error)

    def _bury(self, which: str, values: Sequence[object], state: str, error: str | None) -> None:
        with self._transaction() as database:
            database.execute(
                "UPDATE jobs SET state = ?, error = ?, ended = ?, failures = failures + ?, owner = NULL, "
                f"seconds = seconds + MAX(0, heartbeat - started) WHERE {which} AND state = ?",
                (state, error, time.time(), int(state == FAILED), *values, RUNNING),
            )

    def retry(self, keys: Sequence[str]) -> int:
        """Reset failed and cancelled runs to waiting, with all their retries. Return how many there were."""
        return self._set(keys, WAITING, (FAILED, CANCELLED), "failures = 0, error = NULL")

    def run_again(self, keys: Sequence[str]) -> int:
        """Reset finished runs to waiting, because their results are gone. Return how many there were."""
        return self._set(keys, WAITING, (DONE,), "failures = 0, result = NULL")

    def cancel(self, keys: Sequence[str]) -> int:
        """Cancel runs that are not done. Running ones stop at their next heartbeat. Return how many there were."""
        return self._set(keys, CANCELLED, (WAITING, RUNNING, INTERRUPTED, FAILED), "owner = NULL")

    def prune(self, key: str) -> bool:
        """Stop a poor run for good, at its next heartbeat. Return False if it is not running."""
        ended = "owner = NULL, ended = heartbeat, seconds = seconds + heartbeat - started"
        return self._set([key], PRUNED, (RUNNING,), ended) == 1

    def _set(self, keys: Sequence[str], state: str, of: Sequence[str], more: str) -> int:
        marks = ", ".join("?" for _ in of)
        with self._transaction() as database:
            return sum(
                database.execute(
                    f"UPDATE jobs SET state = ?, {more} WHERE key = ? AND state IN ({marks})", (state, key, *of)
                ).rowcount
                for key in keys
            )

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE", *, make: bool = False) -> Iterator[sqlite3.Connection]:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise UserError(f"{self.path} is a link or no plain file, so it is not used; put the ledger itself in its place")
        if not make and not self.path.exists():
            raise UserError(f"{self.directory} is not a sweep: it has no {LEDGER}")
        try:
            database = sqlite3.connect(self.path, timeout=_TIMEOUT, isolation_level=None)
            try:
                database.execute(f"BEGIN {kind}")
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version == 0 and kind == "DEFERRED":
                    # Another process is creating the file. Turning this reader into a writer would fail at once.
                    database.execute("ROLLBACK")
                    database.execute("BEGIN IMMEDIATE")
                    version = database.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    database.execute(_TABLE)
                    database.execute(f"PRAGMA user_version = {LEDGER_VERSION}")
                elif version != LEDGER_VERSION:
                    raise UserError(f"{self.path} is of version {version}, this metaloop reads version {LEDGER_VERSION}")
                yield database
                database.execute("COMMIT")
            finally:
                database.close()  # rolls back what was not committed
        except sqlite3.OperationalError as error:  # the disk is full or read-only, or another process writes for too long
            raise UserError(f"the sweep's ledger {self.path} cannot be used: {error}") from error
        except (sqlite3.Error, TornRow, UnicodeDecodeError) as error:
            raise UserError(
                f"the sweep's ledger {self.path} is damaged: {error}. Move the file away and give the sweep's command again: "
                "every run has its own folder, so finished runs count as done and interrupted runs are resumed"
            ) from error


def runnable(job: Job, stale: float, retries: int) -> bool:
    """Whether the next free process should start this run."""
    if job.state == FAILED:
        return job.failures <= retries
    return job.state in (WAITING, INTERRUPTED) or job.abandoned(stale)


def result_of(record: Record) -> dict[str, Any]:
    """The part of a record that the ledger keeps."""
    test, training = record.test, record.training
    return {
        "metric": test.metric.as_dict(),
        "mean": test.mean,
        "half_width": test.half_width,
        "best_validation": training and training.best_validation,
        "tasks_per_second": training and training.tasks_per_second,
        "peak_memory_bytes": training and training.peak_memory_bytes,
        "wall_seconds": training and training.wall_seconds,
        "steps": training and training.stretches,
    }
