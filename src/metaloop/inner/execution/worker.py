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

from metaloop.inner.execution.shared import Arena


def main(connection: int, requests: int, replies: int) -> None:
    """Answer requests until the other end closes, as it does when its process ends, however it ends.

    Args:
        connection: descriptor of the pipe that messages go through.
        requests: descriptor of the arena with the requests' tensors.
        replies: descriptor of the arena with the replies' tensors.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the main process decides what an interrupt means
    torch.set_num_threads(1)
    theirs, ours = Arena(requests), Arena(replies)
    with contextlib.suppress(EOFError, OSError), Connection(connection) as pipe:
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), theirs, ours))
    sys.stdout.flush()
    os._exit(0)  # nothing here is worth a destructor, and none may keep the process


def _answer(request: bytes, theirs: Arena, ours: Arena) -> bytes:
    try:
        strategy, method, task, meta, tasks, seed = theirs.loads(request)
        torch.manual_seed(seed)
        return ours.dumps(("done", getattr(strategy, method)(task, meta, tasks)))
    except Exception as error:
        return ours.dumps(("failed", _picklable(error), traceback.format_exc()))


def _picklable(error: Exception) -> Any:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its constructor or its fields make of it
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
