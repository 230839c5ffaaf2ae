"""A tracker that is a spectator: what it does happens in a thread of its own, and no fault of it reaches the training."""

import logging
import queue
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, final

from metaloop.errors import UserError
from metaloop.tracking.tracker import RunInfo, Tracker

_ROWS = 1000  # that wait at most: hours of training at the usual rate, less than a megabyte
_AFTER_FAILURE = 10.0  # seconds; who stops a run does not want to wait for its tracker

log = logging.getLogger(__name__)

Row = tuple[Mapping[str, float], int]
End = tuple[Mapping[str, Any] | None, str]


class BackgroundTracker(Tracker):
    """A tracker of somebody else's, which may fail, hang or be slow.

    One daemon thread does all its work in the order of the calls; ``log`` only puts a row into a bounded queue. A row for which
    there is no room is dropped, which is said; metrics.csv has it in any case. The first fault is logged as a warning.

    Args:
        title: what it is called in warnings.
        wait: seconds that the end of a finished run waits for it, 10 at most for another; then it is left behind.
        rows: that may wait in the queue.

    Raises:
        UserError: ``wait`` is not positive.
    """

    def __init__(self, title: str, wait: float, rows: int = _ROWS) -> None:
        if wait <= 0:
            raise UserError(f"logger.*.wait={wait}: seconds, more than 0")
        self._title = title
        self._wait = wait
        self._queue: queue.Queue[Row | End] = queue.Queue(rows)
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._faults = 0

    @abstractmethod
    def _open(self, run: RunInfo) -> None:
        """Do the tracker's part of ``start``."""

    @abstractmethod
    def _write(self, metrics: Mapping[str, float], step: int) -> None:
        """Do its part of ``log``; called only where ``_open`` came to its end."""

    @abstractmethod
    def _close(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Do its part of ``finish``; called only where ``_open`` came to its end."""

    @abstractmethod
    def _abandon(self) -> None:
        """It failed at its end or did not come to it: see to it that it cannot hold the process that wants to exit."""

    @final
    def start(self, run: RunInfo) -> None:
        """Start the thread, which starts the tracker."""
        self._thread = threading.Thread(target=self._work, args=(run,), name=self._title, daemon=True)
        self._thread.start()

    @final
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue a row; takes microseconds whatever the tracker does."""
        try:
            self._queue.put_nowait((dict(metrics), step))
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:
                log.warning("%s does not keep up; rows are dropped from it, metrics.csv has them all", self._title)

    @final
    def finish(self, record: Mapping[str, Any] | None, status: str) -> None:
        """Have the tracker finish, and wait for it as long as was said."""
        if self._thread is None:
            return
        wait = self._wait if status == "finished" else min(self._wait, _AFTER_FAILURE)
        deadline = time.monotonic() + wait
        try:
            self._queue.put((record, status), timeout=wait)
        except queue.Full:
            pass
        else:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            log.warning("%s did not come to its end within %g s and is left behind", self._title, wait)
            self._guarded(self._abandon)
        if self._dropped:
            log.warning("%s lacks %d rows, which it had no time for; metrics.csv has them", self._title, self._dropped)

    def _work(self, run: RunInfo) -> None:
        """The thread: from the tracker's start to its end."""
        opened = self._guarded(lambda: self._open(run))
        while True:
            first, second = self._queue.get()
            if isinstance(second, str):
                if not (opened and self._guarded(lambda: self._close(first, second))):  # noqa: B023  (called at once)
                    self._guarded(self._abandon)
                return
            if opened and first is not None:
                self._guarded(lambda: self._write(first, second))  # noqa: B023

    def _guarded(self, action: Callable[[], object]) -> bool:
        """Whether it came to its end."""
        try:
            action()
        except Exception as error:
            # On purpose everything: no network, a full quota or a fault of the tracker's must not cost hours of training.
            self._faults += 1
            if self._faults == 1:
                log.warning("%s failed; the training goes on, and metrics.csv has all rows: %r", self._title, error)
            return False
        return True
