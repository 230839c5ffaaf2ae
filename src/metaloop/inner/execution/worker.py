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
    """Answer requests until the other end of the pipe closes, which also happens if the main process dies.

    Args:
        connection: file descriptor of the pipe for messages.
        requests: file descriptor of the arena with the requests' tensors.
        replies: file descriptor of the arena with the replies' tensors.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the main process handles interrupts
    torch.set_num_threads(1)
    request_arena, reply_arena = Arena(requests), Arena(replies)
    with contextlib.suppress(EOFError, OSError), Connection(connection) as pipe:
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), request_arena, reply_arena))
    sys.stdout.flush()
    os._exit(0)  # skips destructors, which could keep the process alive


def _answer(request: bytes, request_arena: Arena, reply_arena: Arena) -> bytes:
    try:
        run, strategy, task, meta, tasks, seed = request_arena.loads(request)
        torch.manual_seed(seed)
        return reply_arena.dumps(("done", run(strategy, task, meta, tasks)))
    except Exception as error:
        return reply_arena.dumps(("failed", _picklable(error), traceback.format_exc()))


def _picklable(error: Exception) -> Any:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its constructor or its fields may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
