"""The process of a pack, here a thread: trial, runs in step, runs that leave, and runs that it leaves alone."""

import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bowl import batch
from bowl_runs import STEPS, BowlRun
from metaloop.training.packs import member, packed, server
from metaloop.training.packs.member import Membership, PackedSteps, PackLostError
from metaloop.training.packs.messages import Verdict, connect, listen
from metaloop.training.packs.packed import PackedStep
from metaloop.training.packs.server import PackServer

Start = Callable[..., Connection]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compute without a compiler and draw the tasks of the tests; holds how many runs took each stretch."""
    numbers: list[int] = []
    take = PackedStep.take

    def counted(self: PackedStep, stretches: Any, constants: Any) -> Any:
        numbers.append(len(stretches))
        return take(self, stretches, constants)

    def parts(episodes: object, size: int, first: int, stop: int) -> Iterator[Any]:
        drawn = [batch(number) for number in range(first, stop)]
        leaves = [torch.stack(each) for each in zip(*(leaves_of(tasks) for tasks in drawn), strict=True)]
        yield leaves, torch.stack([tasks.index for tasks in drawn])

    monkeypatch.setattr(packed, "compiled", lambda function, example: function)
    monkeypatch.setattr(PackedStep, "take", counted)
    monkeypatch.setattr(member, "_parts", parts)
    return numbers


def leaves_of(tasks: Any) -> list[torch.Tensor]:
    from metaloop.training.stretches import captured

    return captured.leaves_of(tasks)[0]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Start]:
    """Start a server with some seats; returns the scheduler's end of its pipe."""
    ends: list[tuple[Connection, threading.Thread]] = []

    def start(seats: int = 3, *, forced: bool = True) -> Connection:
        mine, theirs = Pipe()
        listener = listen(str(tmp_path / "pack"))

        def serve() -> None:
            with listener, theirs:
                PackServer(listener, theirs, seats, forced=forced).serve()

        thread = threading.Thread(target=serve)
        thread.start()
        ends.append((mine, thread))
        return mine

    yield start
    for pipe, thread in ends:
        pipe.close()
        thread.join(30)
        assert not thread.is_alive()


def joined(tmp_path: Path, run: BowlRun) -> PackedSteps | str:
    return Membership(connect(str(tmp_path / "pack"))).join(run.function, run.example(), run.example())


def taken(steps: PackedSteps, run: BowlRun, first: int) -> list[float]:
    parts = steps.take(run.state, [run.rate] * STEPS, None, 4, first)  # type: ignore[arg-type]
    return [float(loss) for part in parts for loss, _ in part]


def side_by_side(*functions: Callable[[], Any]) -> list[Any]:
    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n, f=f: results.update({n: f()}))  # type: ignore[misc]
        for n, f in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[number] for number in range(len(functions))]


def test_runs_in_step_equal_each_by_itself(tmp_path: Path, begin: Start, calls: list[int]) -> None:
    scheduler, runs = begin(), [BowlRun(0.05, 0.1), BowlRun(0.2, 0.01)]
    steps = [joined(tmp_path, run) for run in runs]
    verdict = scheduler.recv()
    assert verdict.seats == 3
    scheduler.send(2)
    losses = side_by_side(*(lambda n=n: taken(steps[n], runs[n], 7) for n in range(2)))  # type: ignore[misc]
    assert calls == [2]
    for run, end in zip((BowlRun(0.05, 0.1), BowlRun(0.2, 0.01)), losses, strict=True):
        vector, expected = run.end_by_itself(7)
        np.testing.assert_allclose(end, expected, rtol=1e-11)
        moved = next(each for each in runs if each.rate == run.rate)
        np.testing.assert_allclose(moved.state.read()[0].numpy(), vector, rtol=1e-11, atol=1e-13)
        assert moved.state.count == STEPS + 1


def test_the_first_run_waits_for_those_that_the_scheduler_starts(tmp_path: Path, begin: Start, calls: list[int]) -> None:
    scheduler, runs = begin(2), [BowlRun(0.05, 0.1), BowlRun(0.2, 0.01)]
    first = joined(tmp_path, runs[0])
    assert isinstance(first, PackedSteps)

    def others() -> list[float]:
        assert scheduler.recv().seats == 2
        second = joined(tmp_path, runs[1])  # tracing takes longer than the first run would wait for a run that it knows
        scheduler.send(2)
        assert isinstance(second, PackedSteps)
        return taken(second, runs[1], 0)

    side_by_side(lambda: taken(first, runs[0], 0), others)
    assert calls == [2]


def test_a_run_that_ends_leaves_the_others_going(
    tmp_path: Path, begin: Start, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LEAST_WAIT", 0.05)
    scheduler, runs = begin(), [BowlRun(0.05, 0.1), BowlRun(0.2, 0.01)]
    steps = [joined(tmp_path, run) for run in runs]
    assert scheduler.recv().seats
    scheduler.send(2)
    steps[0]._connection.close()  # type: ignore[union-attr]
    assert len(taken(steps[1], runs[1], 0)) == STEPS  # type: ignore[arg-type]
    assert calls == [1]


def test_a_run_with_another_step_is_by_itself(tmp_path: Path, begin: Start, calls: list[int]) -> None:
    begin()
    assert isinstance(joined(tmp_path, BowlRun(0.05, 0.1)), PackedSteps)
    assert "more than numbers" in str(joined(tmp_path, BowlRun(0.05, 0.0)))


def test_a_trial_that_does_not_pay_leaves_each_run_by_itself(
    tmp_path: Path, begin: Start, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackedStep, "seconds", lambda step: 1e-3 * step.seats)
    scheduler = begin(4, forced=False)
    assert joined(tmp_path, BowlRun(0.05, 0.1)) == "a step of 4 runs takes 4.00 ms together, 4.00 ms one after the other"
    assert scheduler.recv() == Verdict(0, "a step of 4 runs takes 4.00 ms together, 4.00 ms one after the other")


def test_a_wrong_step_forbids_a_pack(tmp_path: Path, begin: Start, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedStep, "distance", lambda step: 0.1)
    begin()
    assert "gradients of 3 runs together differ" in str(joined(tmp_path, BowlRun(0.05, 0.1)))


def test_full_memory_forbids_a_pack(tmp_path: Path, begin: Start, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "free_bytes", lambda device: 10)
    begin()
    assert "no memory" in str(joined(tmp_path, BowlRun(0.05, 0.1)))


def test_a_refusal_is_told_to_the_scheduler(tmp_path: Path, begin: Start) -> None:
    scheduler = begin()
    place = Membership(connect(str(tmp_path / "pack")))
    assert not place.is_decided()
    place.leave("it has reasons")
    assert scheduler.recv() == Verdict(0, "it has reasons")


def test_a_lost_process_leaves_the_run_where_it_was(tmp_path: Path) -> None:
    here, there = Pipe()
    run = BowlRun(0.05, 0.1)
    steps = PackedSteps(here, run.function, run.example(), "")
    there.close()
    before = run.state.read()[0].clone()
    with pytest.raises(PackLostError, match="has ended"):
        next(steps.take(run.state, [0.05], _Episodes(), 4, 0))  # type: ignore[arg-type]
    assert torch.equal(run.state.read()[0], before)


class _Episodes:
    """The tasks of the tests."""

    def blocks(self, first: int, stop: int, size: int) -> Iterator[Any]:
        yield batch(first)
