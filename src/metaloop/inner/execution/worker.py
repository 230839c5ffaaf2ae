"""The process that computes a share of a meta-batch for :class:`metaloop.inner.execution.workers.Workers`."""

import contextlib
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import torch

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.inner.execution.shared import Arena

_MOST = 8  # requests that are remembered


def main(connection: int, requests: int, replies: int) -> None:
    """Answer requests until the other end of the pipe closes, which also happens if the main process dies.

    Args:
        connection: file descriptor of the pipe for messages.
        requests: file descriptor of the arena with the requests' tensors.
        replies: file descriptor of the arena with the replies' tensors.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the main process handles interrupts
    torch.set_num_threads(1)
    requested, reply_arena = _Requests(Arena(requests)), Arena(replies)
    with contextlib.suppress(EOFError, OSError), Connection(connection) as pipe:
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), requested, reply_arena))
    sys.stdout.flush()
    os._exit(0)  # skips destructors, which could keep the process alive


class _Requests:
    """Requests that were read before, which the next ones repeat except for the tensors in the shared memory.

    Objects are thus made once, and a strategy keeps what it recorded of them.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._read: dict[bytes, Any] = {}
        self._strategies: dict[str, OverTasks] = {}

    def read(self, request: bytes) -> Any:
        """Return the function, the strategy, and the rest of a request."""
        if request not in self._read:
            run, strategy, *rest = self._arena.loads(request)
            if len(self._read) == _MOST:
                self._read.clear()
            self._read[request] = run, self._strategies.setdefault(strategy.name, strategy), *rest
        return self._read[request]


def _answer(request: bytes, requests: _Requests, reply_arena: Arena) -> bytes:
    try:
        run, strategy, task, meta, tasks, seed = requests.read(request)
        torch.manual_seed(int(seed))
        return reply_arena.dumps(("done", run(strategy, task, meta, tasks)))
    except Exception as error:
        return reply_arena.dumps(("failed", _picklable(error), traceback.format_exc()))


def _picklable(error: Exception) -> Any:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its constructor or its fields may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
