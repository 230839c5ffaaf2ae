"""Stops of this process become exceptions, also where Python would lose them."""

import multiprocessing
import signal
import sys
import weakref
from collections.abc import Iterator

import pytest

from metaloop.errors import Terminated
from metaloop.system.stops import stoppable, stops_held_back, tell_stops


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    """Handle stops as a command does, and take them as a process that hears Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with stoppable():
        yield
    signal.signal(signal.SIGINT, before)


class Destructed:
    """Is stopped while it goes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


class Referred:
    """Is stopped in the callback of a weak reference to it while it goes."""

    def __init__(self) -> None:
        weakref.finalize(self, signal.raise_signal, signal.SIGTERM)


def make_and_wait(kind: type) -> None:
    kind()
    while True:
        signal.pause()


def stopped_early(reached: list[str]) -> None:
    with stops_held_back():
        signal.raise_signal(signal.SIGTERM)
        reached.append("end of the block")
    reached.append("end of the function")


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_is_an_exception(number: signal.Signals, error: type[BaseException]) -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(number)
    assert type(raised.value) is error


@pytest.mark.parametrize("kind", [Destructed, Referred])
def test_B15_a_stop_where_python_would_forget_it_is_raised_afterwards(kind: type) -> None:
    with pytest.raises(Terminated):
        make_and_wait(kind)


def test_a_stop_waits_for_the_end_of_a_block() -> None:
    reached: list[str] = []
    with pytest.raises(Terminated):
        stopped_early(reached)
    assert reached == ["end of the block"]


def exit_by_wakeup() -> None:
    sys.exit(signal.set_wakeup_fd(-1) != -1)


def test_signals_of_a_forked_child_are_not_told_as_this_processs() -> None:
    before = signal.set_wakeup_fd(-1)
    tell_stops(lambda stop: None)
    child = multiprocessing.get_context("fork").Process(target=exit_by_wakeup)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert signal.set_wakeup_fd(before) != -1


def test_somebody_elses_handler_stays() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    with stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, before)
