"""Start of several ranks on one machine, in place of Lightning's, which would run the command line again for each rank."""

import multiprocessing
import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from metaloop.errors import ProcessKilled, UserError
from metaloop.system.stops import end_with, ignore_stops, stop_once, stops_held_back, tell_stops

_GRACE = 10.0  # seconds that ranks have to end; longer only where they wait for each other and hear nothing
_SETTLE = 2.0  # seconds after an error in which its cause may show in another rank
_POLL = 0.5  # seconds between two looks at the ranks, for one whose pipe is kept open by its own child processes
_CAUSES = (UserError, KeyboardInterrupt, ProcessKilled)  # never follow from the end of another rank


@dataclass(frozen=True)
class _Message:
    """What a rank leaves: its result, or its error with the traceback, which is lost on the way, as text."""

    seconds: float  # on the clock that all processes share
    result: Any = None
    error: BaseException | None = None
    trace: str = ""


def launch(function: Callable[..., Any], ranks: int, *arguments: Any) -> Any:
    """Call ``function(*arguments)`` in ``ranks`` processes that form one process group; return rank zero's result.

    All ranks end when one of them fails or is stopped, and when this process is stopped or killed.

    Args:
        function: Function that can be imported by name; its arguments and result are pickled.
        ranks: Number of processes.
        arguments: Arguments, the same for each rank.

    Raises:
        BaseException: the first error of any rank.
        KeyboardInterrupt: this process or a rank was stopped by SIGINT or, if it is `Terminated`, by SIGTERM.
        ProcessKilled: a rank was killed.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes: list[SpawnProcess] = []
    pipes: list[Connection] = []
    try:
        with stops_held_back():
            for rank in range(ranks):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_rank, args=(rank, ranks, port, os.getpid(), sender, function, arguments))
                process.start()
                sender.close()  # so that the pipe ends with the rank
                processes.append(process)
                pipes.append(receiver)
        messages = _collect(processes, pipes)
    finally:
        _end(processes)
    return messages[0].result


def _collect(processes: Sequence[SpawnProcess], pipes: Sequence[Connection]) -> dict[int, _Message]:
    """Wait until all ranks have ended well, and return their messages by rank; raise what ended the first that has not."""
    messages: dict[int, _Message] = {}
    pending, deadline = dict(enumerate(pipes)), float("inf")
    while pending and time.monotonic() < deadline:
        wait(list(pending.values()), timeout=_POLL)
        for rank, pipe in list(pending.items()):
            message = _received(pipe) or _silent_end(rank, processes[rank])
            if message is not None:
                messages[rank] = message
                del pending[rank]
        errors = [message.error for message in messages.values() if message.error is not None]
        if any(isinstance(error, _CAUSES) for error in errors):
            break
        if errors and deadline == float("inf"):  # it may only be that another rank has gone, which is about to show
            deadline = time.monotonic() + _SETTLE
    failed = [message for message in messages.values() if message.error is not None]
    if failed:
        first = min(failed, key=lambda message: (not isinstance(message.error, _CAUSES), message.seconds))
        assert first.error is not None
        raise first.error from (_RankError(first.trace) if first.trace else None)
    return messages


def _received(pipe: Connection) -> _Message | None:
    try:
        return pipe.recv() if pipe.poll() else None
    except (EOFError, OSError):  # the rank ended without a word, or within one
        return None


def _silent_end(rank: int, process: SpawnProcess) -> _Message | None:
    if process.is_alive():
        return None
    code = process.exitcode or 0
    error = ProcessKilled(f"rank {rank}", -code) if code < 0 else RuntimeError(f"rank {rank} ended with exit status {code}")
    return _Message(time.monotonic(), error=error)


class _RankError(Exception):
    """The traceback of a rank, shown as the cause of its error."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _end(processes: Sequence[SpawnProcess]) -> None:
    """Ask all ranks that are left to stop, and kill those that do not."""
    try:
        for process in processes:
            if process.is_alive():
                process.terminate()
        deadline = time.monotonic() + _GRACE
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.join()


def _rank(
    rank: int,
    ranks: int,
    port: int,
    parent: int,
    pipe: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    stop_once()
    end_with(parent, by_kernel=True)
    sending = threading.Lock()

    def send(message: _Message) -> None:
        with sending:
            pipe.send(message)

    tell_stops(lambda stop: send(_Message(time.monotonic(), error=stop)))
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    try:
        value = function(*arguments)
        message = _Message(time.monotonic(), value if rank == 0 else None)
    except KeyboardInterrupt as stop:
        message = _Message(time.monotonic(), error=stop)
    except BaseException as error:
        message = _Message(time.monotonic(), error=_picklable(error), trace=traceback.format_exc())
    ignore_stops()
    send(message)
    if message.error is not None:
        sys.exit(1)


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its constructor or its fields may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
