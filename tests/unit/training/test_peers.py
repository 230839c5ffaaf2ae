"""What the ranks of torchrun know of each other, with a clock and a store of the test."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest
from torch.distributed import DistNetworkError, HashStore

from metaloop.errors import RankLost, Terminated, UserError
from metaloop.training.processes import peers as module
from metaloop.training.processes.peers import Peers, watching_peers


@pytest.fixture
def three() -> list[Peers]:
    store = HashStore()
    return [Peers(store, rank, 3) for rank in range(3)]


def test_ranks_that_beat_are_well(three: list[Peers]) -> None:
    for second in range(0, 200, 20):
        assert [peers.look(float(second)) for peers in three] == [None] * 3


def test_a_rank_that_falls_silent_is_named_with_its_place(three: list[Peers]) -> None:
    for peers in three:
        peers.look(0.0)
    assert [peers.look(1.0) for peers in three] == [None] * 3
    assert [peers.look(20.0) for peers in three[:2]] == [None] * 2  # the beat of second 1 is new to them
    assert [peers.look(49.0) for peers in three[:2]] == [None] * 2
    for peers in three[:2]:
        reason = peers.look(51.0) or ""
        assert f"rank 2 (on {socket.gethostname()}, process {os.getpid()}) has sent no sign of life for 30 s" in reason


def test_a_rank_that_never_begins_has_longer(three: list[Peers]) -> None:
    for second in (0.0, 1.0, 40.0):
        assert [peers.look(second) for peers in three[:2]] == [None] * 2
    assert "rank 2 has sent no sign of life for 50 s" in (three[0].look(51.0) or "")


def test_a_rank_that_has_finished_may_be_silent(three: list[Peers]) -> None:
    for peers in three:
        peers.look(0.0)
    three[2].finish()
    for second in (20.0, 40.0, 60.0, 80.0):
        assert [peers.look(second) for peers in three[:2]] == [None] * 2
    assert three[0].has_finished(2)
    assert not three[0].has_finished(1)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such thing\nat all"), "ended with ValueError: no such thing"),
        (Terminated(), "was stopped by a signal"),
    ],
)
def test_a_rank_tells_how_it_ended_and_the_first_word_counts(three: list[Peers], error: BaseException, text: str) -> None:
    three[1].tell(error)
    three[2].tell(RuntimeError("the consequence"))
    reason = three[0].look(0.0) or ""
    assert reason.startswith("rank 1 (on ")
    assert text in reason
    assert "\n" not in reason


def under_torchrun(monkeypatch: pytest.MonkeyPatch, store: object) -> None:
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "run_store", lambda: Cloned(store))
    monkeypatch.setattr(module, "_PERIOD", 0.01)


class Cloned:
    """A store whose clone is another one."""

    def __init__(self, store: object) -> None:
        self.clone = lambda: store


class Gone(HashStore):
    """A store whose server has ended."""

    def check(self, keys: list[str]) -> bool:
        raise DistNetworkError("Broken pipe")


@pytest.fixture
def _ctrl_c() -> object:
    """The command line's handler of SIGINT, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("wait", [signal.pause, lambda: os.read(os.pipe()[0], 1)])
def test_a_rank_that_waits_is_ended_by_the_end_of_another(wait: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    under_torchrun(monkeypatch, store)
    Peers(store, 1, 2).tell(MemoryError("all full"))
    with pytest.raises(RankLost, match=r"another has: rank 1 \(on .*ended with MemoryError: all full"), watching_peers():
        wait()


@pytest.mark.usefixtures("_ctrl_c")
def test_the_loss_of_the_store_is_the_loss_of_rank_zeros_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, Gone())
    with pytest.raises(RankLost, match=r"the store of rank zero's machine does not answer \(Broken pipe\)"), watching_peers():
        signal.pause()


@pytest.mark.usefixtures("_ctrl_c")
def test_a_broken_connection_is_explained_by_the_rank_that_broke_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    under_torchrun(monkeypatch, store)
    Peers(store, 1, 2).tell(KeyError("x"))
    with pytest.raises(RankLost, match="ended with KeyError"), watching_peers():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")


def test_a_mistake_of_this_rank_is_its_own_and_the_others_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    under_torchrun(monkeypatch, store)
    with pytest.raises(UserError, match="a bad connection of mine"), watching_peers():
        raise UserError("a bad connection of mine")
    assert "rank 0 (on" in (Peers(store, 1, 2).look(0.0) or "")


def test_without_torchrun_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_store", lambda: pytest.fail("there is no store"))
    with suppress(KeyError), watching_peers():
        raise KeyError
