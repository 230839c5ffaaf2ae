"""The process that computes the stretches of a pack's runs.

It decides once, with the step of the first run, whether computing together pays, and then waits for the other runs. A run that
ends, fails or is stopped leaves; its seat stays empty. The runs are in step because each waits for its own stretch.
"""

import logging
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from metaloop.inner.execution.footprint import free_bytes
from metaloop.system.allocator import tune
from metaloop.training.packs.messages import Arrays, Departure, Hello, Stretch, Verdict, VerdictRequest, accept, listen
from metaloop.training.packs.packed import PackedStep

_MARGIN = 1.2  # together must be faster by this much, for stacking and waiting
_SHARE = 0.5  # of the free memory that the other runs may take
_START_UP = 180.0  # seconds that further runs have to their third outer step, before the others go on without them
_LEAST_WAIT, _WAIT_SHARE = 2.0, 2.0  # seconds, and times the last stretch, that runs which are ready wait for the others
_POLL = 1.0

log = logging.getLogger(__name__)


@dataclass
class _Member:
    """A run that has joined: the constants of its step, and the stretch that it waits for."""

    constants: Arrays
    stretch: Stretch | None = None


class PackServer:
    """Serves the runs of a pack, until the scheduler or the last run has gone.

    Args:
        listener: Socket at which runs ask to join.
        scheduler: Connection to the sweep's scheduler. It gets the verdict, and then tells how many runs will join.
        seats: Most runs at once.
        forced: Whether to compute together without timing.
    """

    def __init__(self, listener: socket.socket, scheduler: Connection, seats: int, *, forced: bool) -> None:
        self._listener, self._scheduler = listener, scheduler
        self._seats, self._forced = seats, forced
        self._scheduled = True
        self._key = ""
        self._steps: dict[int, PackedStep] = {}  # by number of seats
        self._seconds: dict[int, float] = {}  # processor time of each of them
        self._verdict: Verdict | None = None
        self._members: dict[Connection, _Member] = {}
        self._strangers: list[Connection] = []  # runs that have said nothing yet
        self._expected, self._deadline = 1, float("inf")
        self._since, self._last = 0.0, 0.0  # when the first run began to wait, and seconds of the last stretch

    def serve(self) -> None:
        """Answer until the scheduler has gone and so have all runs; a sweep that is killed leaves its runs going."""
        while self._scheduled or self._members or self._strangers:
            due = self._due()
            if due <= time.monotonic():
                self._compute()
                continue
            ready = wait(
                [self._listener, self._scheduler, *self._strangers, *self._members], min(_POLL, due - time.monotonic())
            )
            if self._listener in ready:
                self._strangers.append(accept(self._listener))
            if self._scheduler in ready:
                self._heed()
            for connection in ready:
                if isinstance(connection, Connection) and connection is not self._scheduler:
                    self._hear(connection)

    def _heed(self) -> None:
        """Take the number of runs that will join."""
        try:
            self._expected = int(self._scheduler.recv())
        except (EOFError, OSError):
            self._scheduled, self._expected = False, 0

    def _hear(self, connection: Connection) -> None:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            self._lose(connection)
            return
        if isinstance(message, Hello):
            self._join(connection, message)
        elif isinstance(message, VerdictRequest):
            _answer(connection, self._verdict)
        elif isinstance(message, Stretch):
            if not self._waiting:
                self._since = time.monotonic()
            self._members[connection].stretch = message
        elif isinstance(message, Departure):
            self._lose(connection)
            self._tell(Verdict(0, message.reason))

    def _lose(self, connection: Connection) -> None:
        if connection in self._strangers:
            self._strangers.remove(connection)
        if self._members.pop(connection, None) is not None:
            self._expected -= 1
        connection.close()

    def _tell(self, verdict: Verdict) -> None:
        """Keep the verdict of the first run, and tell it to the scheduler."""
        if self._verdict is None:
            self._verdict = verdict
            _answer(self._scheduler, verdict)
            if verdict.seats and self._scheduled:  # until the scheduler says how many runs it has started
                self._expected, self._deadline = verdict.seats, time.monotonic() + _START_UP

    def _join(self, connection: Connection, hello: Hello) -> None:
        self._strangers.remove(connection)
        if self._verdict is None:
            self._key = hello.program.key
            self._tell(self._tried(hello))
        assert self._verdict is not None
        verdict = self._verdict
        if verdict.seats and hello.program.key != self._key:
            verdict = Verdict(0, "its step differs from that of the other runs in more than numbers")
        elif verdict.seats and len(self._members) >= verdict.seats:
            verdict = Verdict(0, "all seats of its pack are taken")
        if not _answer(connection, verdict) or not verdict.seats:
            connection.close()
            self._expected -= 1
            return
        self._members[connection] = _Member(hello.program.constants)

    def _tried(self, hello: Hello) -> Verdict:
        """Compile the step of one run and of all, and compare what they compute and take."""
        seats = self._seats
        if hello.memory:
            seats = min(seats, 1 + int(_SHARE * free_bytes(torch.device("cpu")) / hello.memory))
        if seats < 2:
            return Verdict(0, "there is no memory for a second run")
        try:
            for count in (seats,) if self._forced else (1, seats):
                step = self._steps[count] = PackedStep(hello.program, self._arguments(hello), count)
                if not step.agrees():
                    return Verdict(0, f"the gradients of {count} runs together differ from those of each by itself")
                self._seconds[count] = step.seconds()
        except Exception as error:  # tracing and compiling fail with many kinds of error; each run still works by itself
            return Verdict(0, f"its step cannot be compiled for {seats} runs ({type(error).__name__}: {error})"[:200])
        together, alone = self._seconds[seats], self._seconds.get(1, 0.0) * seats
        times = f"a step of {seats} runs takes {together * 1e3:.2f} ms together" + (
            f", {alone * 1e3:.2f} ms one after the other" if alone else ""
        )
        if alone and together * _MARGIN > alone:
            return Verdict(0, times)
        return Verdict(seats, times)

    @staticmethod
    def _arguments(hello: Hello) -> list[torch.Tensor]:
        return [torch.from_numpy(each) for each in (*hello.example, *hello.program.constants)]

    @property
    def _waiting(self) -> int:
        return sum(member.stretch is not None for member in self._members.values())

    def _due(self) -> float:
        """When the next stretch is computed, by the clock; infinite if no run waits for one."""
        if not self._waiting:
            return float("inf")
        if len(self._members) < self._expected and time.monotonic() < self._deadline:
            return self._deadline
        if self._waiting == len(self._members):
            return 0.0
        return self._since + max(_LEAST_WAIT, _WAIT_SHARE * self._last)

    def _compute(self) -> None:
        """Compute the stretches that are waited for, equally long ones together."""
        start = time.monotonic()
        groups: dict[int, list[Connection]] = defaultdict(list)
        for connection, member in self._members.items():
            if member.stretch is not None:
                groups[member.stretch.steps].append(connection)
        for group in groups.values():
            one_by_one = 1 in self._steps and len(group) * self._seconds[1] <= self._seconds[max(self._steps)]
            for part in [[each] for each in group] if one_by_one else [group]:
                self._take(part)
        self._since = time.monotonic()
        self._last = self._since - start

    def _take(self, connections: Sequence[Connection]) -> None:
        members = [self._members[connection] for connection in connections]
        step = self._steps[1 if len(members) == 1 and 1 in self._steps else max(self._steps)]
        results = step.take([_there(member.stretch) for member in members], [member.constants for member in members])
        for connection, member, steps in zip(connections, members, results, strict=True):
            member.stretch = None
            if not _answer(connection, steps):
                self._lose(connection)


def _there(stretch: Stretch | None) -> Stretch:
    assert stretch is not None
    return stretch


def _answer(connection: Connection, message: Any) -> bool:
    """Send a message; return False if nobody reads it."""
    try:
        connection.send(message)
    except OSError:
        return False
    return True


def serve(address: str, scheduler: Connection, seats: int, threads: int, *, forced: bool) -> None:
    """Serve a pack: the main function of its process.

    Args:
        address: Path of the socket.
        scheduler: See :class:`PackServer`.
        seats: Likewise.
        threads: Threads of the process.
        forced: See :class:`PackServer`.
    """
    tune()
    torch.set_num_threads(threads)
    with listen(address) as listener:
        PackServer(listener, scheduler, seats, forced=forced).serve()
