"""Watch over the ranks that torchrun has started: when one of them ends, all others end, and say which it was.

torchrun ends the ranks of its own machine. Those of other machines would wait in the next collective operation: by gloo until
the connection breaks, by NCCL for minutes, and for ever before the process group exists.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from metaloop.errors import RankLost
from metaloop.system.external_ranks import externally_launched, run_store
from metaloop.system.terminal import printable

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_ENDED = "metaloop/ended"  # how the first rank ended that did not end well
_BEAT = "metaloop/beat"  # and the rank: a number that grows, and where the rank is
_DONE = "done"
_PERIOD = 2.0  # seconds between two beats
_STALE = 30.0  # seconds without a beat after which a rank counts as lost
_UNBORN = 50.0  # the same for a rank that has not begun, which may still read its config
_GRACE = 10.0  # seconds that this rank has to end by itself when another one is lost
_LONGEST = 300  # characters of another rank's error
_COLLECTIVES = ("gloo", "nccl", "c10d")  # in the messages of errors that are no DistError

log = logging.getLogger(__name__)


@contextmanager
def watching_peers() -> Iterator[None]:
    """End this rank when another one has ended without finishing, and tell the others if this one does so.

    Does nothing where torchrun has not started several ranks.

    Raises:
        RankLost: another rank has ended or is silent; the message names it.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if not externally_launched() or ranks == 1:
        yield
        return
    connection = run_store().clone()  # type: ignore[attr-defined]  # torch's stubs lack it
    peers = Peers(connection, int(os.environ["RANK"]), ranks)
    watch = _Watch(peers)
    watch.start()
    try:
        with _explained(watch, peers):
            yield
    except KeyboardInterrupt as stop:
        if watch.reason is None:
            raise
        raise RankLost(watch.reason) from stop  # the interrupt came while another error was being explained
    finally:
        watch.end()
    peers.finish()


@contextmanager
def _explained(watch: "_Watch", peers: "Peers") -> Iterator[None]:
    """Turn an error that follows from the end of another rank into one that says so, and tell the others of any other."""
    try:
        yield
    except BaseException as error:
        reason = watch.reason_of(error)
        if reason is None:
            peers.tell(error)
            raise
        raise RankLost(reason) from error


class Peers:
    """What the ranks of a run know of each other, through the store that rank zero's machine holds.

    Args:
        store: the store, by a connection of its own.
        rank: this rank.
        ranks: number of all ranks.
    """

    def __init__(self, store: "Store", rank: int, ranks: int) -> None:
        self._store, self._rank = store, rank
        self._others = {other: f"{_BEAT}{other}" for other in range(ranks) if other != rank}
        self._beats = 0
        self._last: dict[int, tuple[str, float]] = {}  # the last beat of each other rank, and when it was new here
        for key in self._others.values():
            store.compare_set(key, "", "0")  # makes the key, unless its rank has begun

    def look(self, now: float) -> str | None:
        """Send a beat, and look at the others.

        Args:
            now: seconds on any clock that only this rank reads.

        Returns:
            Why this rank must end; None if all others are well.
        """
        self._beats += 1
        self._store.set(f"{_BEAT}{self._rank}", f"{self._beats} on {socket.gethostname()}, process {os.getpid()}")
        if self._store.check([_ENDED]):
            return self._store.get(_ENDED).decode()
        beats = self._store.multi_get(list(self._others.values()))
        for other, beat in zip(self._others, (value.decode() for value in beats), strict=True):
            last, since = self._last.get(other, ("", now))
            if beat != last:
                self._last[other] = beat, now
                continue
            limit = _UNBORN if beat == "0" else _STALE
            if beat != _DONE and now - since > limit:
                place = beat.partition(" ")[2]
                return (
                    f"rank {other}{f' ({place})' if place else ''} has sent no sign of life for {limit:.0f} s: its process was "
                    "killed or stopped, or its machine is gone; look at the output of torchrun there"
                )
        return None

    def has_finished(self, rank: int) -> bool:
        """Whether this other rank has done its part."""
        return self._last.get(rank, ("", 0.0))[0] == _DONE

    def tell(self, error: BaseException) -> None:
        """Tell the others how this rank ended; what the first one tells counts."""
        where = f"rank {self._rank} (on {socket.gethostname()}, process {os.getpid()})"
        if isinstance(error, KeyboardInterrupt):
            text = f"{where} was stopped by a signal; if nobody did it, torchrun there says which rank ended first"
        else:
            first_line = next(iter(str(error).splitlines()), "")
            text = f"{where} ended with {type(error).__name__}: {first_line}"[:_LONGEST]
        with suppress(RuntimeError):  # the store has gone, and the others see that too
            self._store.compare_set(_ENDED, "", text)

    def finish(self) -> None:
        """Tell the others that this rank has done its part."""
        with suppress(RuntimeError):
            self._store.set(f"{_BEAT}{self._rank}", _DONE)


class _Watch(threading.Thread):
    """A thread that looks at the other ranks and interrupts the main thread when one is lost."""

    def __init__(self, peers: Peers) -> None:
        super().__init__(name="peers", daemon=True)
        self._peers = peers
        self.reason: str | None = None  # why this rank must end
        self._is_lost, self._has_ended = threading.Event(), threading.Event()
        self._leaving = False  # whether the main thread is on its way out by itself
        self._lock = threading.Lock()

    def run(self) -> None:
        while not self._has_ended.wait(_PERIOD):
            try:
                self.reason = self._peers.look(time.monotonic())
            except RuntimeError as error:
                if self._peers.has_finished(0):
                    return  # and its store with it
                self.reason = f"the store of rank zero's machine does not answer ({' '.join(str(error).split())[:_LONGEST]})"
            if self.reason is not None:
                self._is_lost.set()
                self._interrupt()
                return

    def _interrupt(self) -> None:
        main = threading.main_thread().ident
        with self._lock:
            if self._leaving or main is None:
                return
            signal.pthread_kill(main, signal.SIGINT)  # a real signal, which also ends a wait in the kernel
        if not self._has_ended.wait(_GRACE):  # the main thread waits in a library for the lost rank
            print(f"metaloop: {printable(str(RankLost(self.reason or '')))}", file=sys.stderr, flush=True)
            os._exit(1)

    def reason_of(self, error: BaseException) -> str | None:
        """Why another rank is the cause of an error here; None if this rank is."""
        with self._lock:
            self._leaving = True
        if _is_of_collective(error):
            log.warning("torch reports that another rank is gone (%s); looking for it", next(iter(str(error).splitlines()), ""))
            if not self._is_lost.wait(_STALE + 2 * _PERIOD):
                return f"another rank has gone: {' '.join(str(error).split())[:_LONGEST]}; look at the output of the others"
        return self.reason

    def end(self) -> None:
        """End the thread."""
        with self._lock:
            self._leaving = True
        self._has_ended.set()


def _is_of_collective(error: BaseException) -> bool:
    """Whether an error comes from an operation of all ranks, such as one whose connection is closed."""
    from torch.distributed import DistError

    if isinstance(error, DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _COLLECTIVES)
