"""What the runs of a pack, the process that computes for them and the sweep's scheduler say to each other."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from metaloop.records.jobs import PACK
from metaloop.training.packs.program import Program

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Hello:
    """A run asks to join.

    Attributes:
        program: Its outer step.
        example: Arguments of the step, for the trial.
        memory: Bytes that its process takes.
    """

    program: Program
    example: Arrays
    memory: int


@dataclass(frozen=True)
class VerdictRequest:
    """A run asks, before its first step, for the verdict: the answer is a :class:`Verdict`, or None before the trial."""


@dataclass(frozen=True)
class Departure:
    """A run cannot join.

    Attributes:
        reason: Why, in words.
    """

    reason: str


@dataclass(frozen=True)
class Verdict:
    """What came out of the trial.

    Attributes:
        seats: Runs that are computed together, 0 if each runs by itself.
        message: Why, in words.
    """

    seats: int
    message: str


@dataclass(frozen=True)
class Stretch:
    """A run asks for its next steps.

    Attributes:
        vector: Parameters.
        buffers: Buffers of the optimiser.
        numbers: (steps, numbers), see :meth:`~metaloop.training.stretches.updates.Update.numbers_at`.
        leaves: Tensors of the meta-batches, (steps, tasks, ...).
    """

    vector: np.ndarray
    buffers: Arrays
    numbers: np.ndarray
    leaves: Arrays

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.numbers)


@dataclass(frozen=True)
class Steps:
    """The state after a stretch.

    Attributes:
        vector: Parameters.
        buffers: Buffers of the optimiser.
        losses: (steps,) loss of each step.
    """

    vector: np.ndarray
    buffers: Arrays
    losses: np.ndarray


def connect(address: str) -> Connection:
    """Connect to the socket of a pack.

    Raises:
        OSError: there is none.
    """
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(address)
        return Connection(plain.detach())


def listen(address: str) -> socket.socket:
    """Make the socket of a pack."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    return listener


def accept(listener: socket.socket) -> Connection:
    """Accept a run."""
    return Connection(listener.accept()[0].detach())


def of_environment() -> str | None:
    """The address of this process's pack; None if it belongs to none."""
    return os.environ.get(PACK)


def arrays(tensors: Sequence[Any]) -> Arrays:
    """Tensors as arrays that share their memory."""
    return tuple(tensor.detach().numpy() for tensor in tensors)
