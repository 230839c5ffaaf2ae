"""A run's side of a pack: it joins, and has its stretches computed by the pack's process."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from metaloop.data.episodes import Episodes
from metaloop.system.memory import peak
from metaloop.training.packs.messages import (
    Departure,
    Hello,
    Steps,
    Stretch,
    Verdict,
    VerdictRequest,
    arrays,
    connect,
    of_environment,
)
from metaloop.training.packs.program import NotPackedError, program_of
from metaloop.training.stretches.captured import CapturedStep, StepFunction, stacked_batches
from metaloop.training.stretches.optimizer_state import OptimizerState

_MOST = 2**23  # bytes of meta-batches in one message
_POLL = 0.5  # seconds between two looks at whether this process was interrupted

log = logging.getLogger(__name__)


class PackLostError(Exception):
    """The process that computes for the pack has ended; the run goes on by itself."""


class Membership:
    """This run's place in a pack, which it has taken when :meth:`join` returns its steps.

    Args:
        connection: Connection to the pack's process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection

    @classmethod
    def of_process(cls) -> "Membership | None":
        """The place that the scheduler has kept for this process's run; None if it is by itself."""
        address = of_environment()
        if address is None:
            return None
        try:
            return cls(connect(address))
        except OSError as error:
            log.warning("the pack of this run is gone (%s); it runs by itself", error)
            return None

    def is_decided(self) -> bool:
        """Whether the trial of an equal run showed that computing together pays, so that this run need not time anything."""
        if self._connection is None:
            return False
        try:
            _send(self._connection, VerdictRequest())
            verdict = _received(self._connection)
        except PackLostError:
            self._connection = None
            return False
        return isinstance(verdict, Verdict) and verdict.seats > 0

    def leave(self, reason: str) -> None:
        """Leave before joining.

        Args:
            reason: Why, in words.
        """
        if self._connection is not None:
            with suppress(PackLostError):
                _send(self._connection, Departure(reason))
            self._connection.close()
            self._connection = None

    def join(self, function: StepFunction, example: Sequence[Tensor], other: Sequence[Tensor]) -> "PackedSteps | str":
        """Join with an outer step; waits until the pack's process has tried it.

        Args:
            function: The step.
            example: Arguments of its shapes.
            other: Other arguments, with which it is tried.

        Returns:
            The steps of this run, or why it is by itself.
        """
        if self._connection is None:
            return "it has left its pack"
        connection, self._connection = self._connection, None
        try:
            program = program_of(function, example, numbers=True)
        except Exception as error:  # tracing fails with many kinds of error; the run by itself says which
            reason = str(error) if isinstance(error, NotPackedError) else f"its step cannot be traced ({type(error).__name__})"
            self._connection = connection
            self.leave(reason)
            return reason
        try:
            _send(connection, Hello(program, arrays(other), peak().private))
            verdict = _received(connection)
        except PackLostError as error:
            return str(error)
        assert isinstance(verdict, Verdict)
        return PackedSteps(connection, function, example, verdict.message) if verdict.seats else verdict.message


class PackedSteps:
    """Outer steps of this run that are computed by the process of its pack.

    Args:
        connection: Connection to that process.
        function: The outer step.
        example: Arguments of its shapes.
        message: What came out of the trial.
    """

    def __init__(self, connection: Connection, function: StepFunction, example: Sequence[Tensor], message: str) -> None:
        self.message = message
        self._connection = connection
        self._function, self._example = function, example

    def take(
        self, state: OptimizerState, rates: Sequence[float], episodes: Episodes, size: int, first: int
    ) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Take outer steps in parts, and write each part's result into the optimiser.

        Args:
            state: State of the optimiser.
            rates: Learning rate of each step.
            episodes: Episodes of meta-training.
            size: Tasks of a meta-batch.
            first: Number of the first step.

        Yields:
            The loss of each step of a part, and the numbers of its tasks.

        Raises:
            PackLostError: the pack's process has ended; what was yielded is done.
        """
        done = 0
        for leaves, index in _parts(episodes, size, first, first + len(rates)):
            numbers = state.table(rates[done : done + len(index)])
            vector, buffers = state.read()
            _send(self._connection, Stretch(vector.numpy(), arrays(buffers), numbers.numpy(), arrays(leaves)))
            steps = _received(self._connection)
            assert isinstance(steps, Steps)
            state.write(torch.from_numpy(steps.vector), [torch.from_numpy(each) for each in steps.buffers], len(index))
            done += len(index)
            yield list(zip(torch.from_numpy(steps.losses).unbind(), index.unbind(), strict=True))

    def by_itself(self) -> CapturedStep:
        """Compile the step for this run alone."""
        return CapturedStep(self._function, self._example)


def _parts(episodes: Episodes, size: int, first: int, stop: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    """The meta-batches of some steps in parts of a message each: tensors (steps, tasks, ...) and the numbers of the tasks."""
    blocks: list[tuple[list[Tensor], Tensor]] = []
    filled = 0
    for block in stacked_batches(episodes, size, first, stop):
        amount = sum(leaf.nbytes for leaf in block[0])
        if blocks and filled + amount > _MOST:
            yield _joined(blocks)
            blocks, filled = [], 0
        blocks.append(block)
        filled += amount
    yield _joined(blocks)


def _joined(blocks: Sequence[tuple[list[Tensor], Tensor]]) -> tuple[list[Tensor], Tensor]:
    leaves = [torch.cat(each) for each in zip(*(leaves for leaves, _ in blocks), strict=True)]
    return leaves, torch.cat([index for _, index in blocks])


def _send(connection: Connection, message: object) -> None:
    try:
        connection.send(message)
    except OSError as error:
        raise PackLostError(f"the process of its pack has ended ({type(error).__name__})") from error


def _received(connection: Connection) -> Any:
    """Wait for an answer, and let this process be interrupted meanwhile."""
    try:
        while not connection.poll(_POLL):
            pass
        return connection.recv()
    except (EOFError, OSError) as error:
        raise PackLostError(f"the process of its pack has ended ({type(error).__name__})") from error
