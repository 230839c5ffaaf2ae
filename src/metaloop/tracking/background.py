"""A tracker that works in a thread of its own, so that its faults do not reach the training."""

import logging
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

from metaloop.errors import UserError
from metaloop.tracking.tracker import RunInfo, Tracker

_ROWS = 1000  # longest queue: hours of training at the usual rate, less than a megabyte
_AFTER_FAILURE = 10.0  # seconds; a user who stops a run does not want to wait for its tracker

log = logging.getLogger(__name__)


class BackgroundTracker(Tracker):
    """A tracker that may fail, hang or be slow.

    A daemon thread does all its work in the order of the calls; ``log`` only puts a row into a bounded queue. If the queue is
    full, the row is dropped with a warning; metrics.csv has it in any case. Only the first fault is logged as a warning.

    Args:
        title: Name of the tracker in warnings.
        wait: Seconds that a finished run waits for the tracker at its end; a failed run waits at most 10 s.
        rows: How many rows may wait in the queue.

    Raises:
        UserError: ``wait`` is not positive.
    """

    def __init__(self, title: str, wait: float, rows: int = _ROWS) -> None:
        if wait <= 0:
            raise UserError(f"logger.*.wait={wait}: must be a number of seconds above 0")
        self._title = title
        self._wait = wait
        self._queue: queue.Queue[tuple[Callable[..., None], Any, Any]] = queue.Queue(rows)
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._faults = 0

    @abstractmethod
    def _open(self, run: RunInfo) -> None:
        """Do the tracker's part of ``start``."""

    @abstractmethod
    def _write(self, metrics: Mapping[str, float], step: int) -> None:
        """Do the tracker's part of ``log``; called only if ``_open`` succeeded."""

    @abstractmethod
    def _close(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Do the tracker's part of ``finish``; called only if ``_open`` succeeded."""

    @abstractmethod
    def _abandon(self) -> None:
        """Release what could keep the process from exiting, after a failed or unfinished ``_close``."""

    @final
    def start(self, run: RunInfo) -> None:
        """Start the thread, which starts the tracker."""
        self._thread = threading.Thread(target=self._work, args=(run,), name=self._title, daemon=True)
        self._thread.start()

    @final
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue a row; takes microseconds, whatever the tracker is doing."""
        try:
            self._queue.put_nowait((self._write, dict(metrics), step))
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:
                log.warning("%s does not keep up, so it misses rows; metrics.csv has them all", self._title)

    @final
    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Finish the tracker, and wait for it at most ``wait`` seconds."""
        if self._thread is None:
            return
        wait = self._wait if status == "finished" else min(self._wait, _AFTER_FAILURE)
        deadline = time.monotonic() + wait
        try:
            self._queue.put((self._close, record, status), timeout=wait)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        except queue.Full:
            pass
        if self._thread.is_alive():
            log.warning("%s did not finish within %g s and was abandoned", self._title, wait)
            self._succeeds(self._abandon)
        if self._dropped:
            log.warning("%s missed %d rows because it was too slow; metrics.csv has them", self._title, self._dropped)

    def _work(self, run: RunInfo) -> None:
        """Run the tracker from its start to its end, in the thread."""
        opened = self._succeeds(self._open, run)
        action: Callable[..., None] = self._write
        while action != self._close:
            action, first, second = self._queue.get()
            succeeded = opened and self._succeeds(action, first, second)
        if not succeeded:
            self._succeeds(self._abandon)

    def _succeeds(self, action: Callable[..., None], *arguments: Any) -> bool:
        """Call a function and return whether it ended without an exception; warn of the first one."""
        try:
            action(*arguments)
        except Exception as error:
            # Every exception: no network, a full quota or a fault of the tracker must not cost hours of training.
            self._faults += 1
            if self._faults == 1:
                log.warning("%s failed; the training goes on, and metrics.csv has all rows: %r", self._title, error)
            return False
        return True
