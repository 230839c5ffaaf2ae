"""Stops of a process: Ctrl-C and SIGTERM become exceptions, and a process can end with the one that started it."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from metaloop.errors import Terminated

_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
_RETRY = 0.01  # seconds until a stop is tried again that came where no exception may be raised
_POLL = 0.5  # seconds between two looks at the parent process
_PR_SET_PDEATHSIG = 1  # prctl(2)
_WEAK = ("weakref", "_weakrefset")  # modules of Python whose functions run when an object goes


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT and `Terminated` for SIGTERM in the main thread during the block.

    A signal that is ignored, or that somebody else handles, such as the launcher of a cluster, is left to them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    changed = {number: default for number, default in _DEFAULTS.items() if signal.getsignal(number) is default}
    for number in changed:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, default in changed.items():
            signal.signal(number, default)


def stop_once() -> None:
    """Raise the exceptions of :func:`stoppable` in a child process, for the first signal only.

    Ctrl-C reaches the child from the terminal and again from its parent, and must not disturb the clean-up.
    """
    for number in _DEFAULTS:
        signal.signal(number, _stop_once)


def tell_stops(tell: Callable[[KeyboardInterrupt], object]) -> None:
    """Call ``tell`` in a thread as soon as a stop arrives, also while the main thread waits in a library and cannot answer it.

    Args:
        tell: Function of the exception that the main thread raises, then or later.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_hear_alone)  # signals of a data loader's worker are not this process's

    def read() -> None:
        while True:
            for number in os.read(reader, 64):
                if number in _DEFAULTS:
                    tell(_exception(number))
                    return

    threading.Thread(target=read, name="stops", daemon=True).start()


def _hear_alone() -> None:
    signal.set_wakeup_fd(-1)


def ignore_stops() -> None:
    """Ignore SIGINT and SIGTERM from now on."""
    for number in _DEFAULTS:
        signal.signal(number, _nothing)  # not SIG_IGN, of which Python complains if the signal is under way


@contextmanager
def stops_held_back() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the end of the block, which starts processes and must know all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _DEFAULTS}
    before = {number: handler for number, handler in handlers.items() if handler is not None}  # None is one of a library in C
    for number in before:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def end_with(parent: int, *, by_kernel: bool) -> None:
    """End this process as by SIGKILL as soon as its parent process has ended, however that ended.

    A thread looks every half second.

    Args:
        parent: Number of the parent process.
        by_kernel: Whether the kernel of Linux does it as well, at once and in any state of the process. It takes the end of the
            thread that started this process for the end of the parent, so that thread must be known to wait.
    """
    if by_kernel and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    if _is_swallowed(frame):
        _again(number)
    else:
        raise _exception(number)


def _stop_once(number: int, frame: FrameType | None) -> None:
    if _is_swallowed(frame):
        _again(number)
        return
    ignore_stops()
    raise _exception(number)


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _again(number: int) -> None:
    timer = threading.Timer(_RETRY, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def _is_swallowed(frame: FrameType | None) -> bool:
    """Whether Python would print and forget an exception raised here: in a destructor or a weak reference's callback."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or Path(code.co_filename).stem in _WEAK:
            return True
        frame = frame.f_back
    return False
