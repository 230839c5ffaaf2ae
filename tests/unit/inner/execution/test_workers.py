"""Worker processes: the loop's numbers, errors that say what happened, and no process left behind."""

import copy
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.inner.execution.shared import Arena
from metaloop.inner.execution.workers import Workers
from metaloop.inner.problem import InnerProblem
from metaloop.inner.rules.rule import GradientDescent
from metaloop.types import Examples, Params, Tasks

META = {"w": torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    strategy = Workers(processes=2)
    yield strategy
    strategy.close()


def made_tasks(tasks: int = 5) -> Tasks:
    random = torch.Generator().manual_seed(0)

    def examples() -> Examples:
        return Examples(*(torch.randn(tasks, *shape, generator=random, dtype=torch.float64) for shape in ((4, 3), (4,))))

    return Tasks(examples(), examples(), torch.arange(tasks))


def loss(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    gradient, _ = autodiff.gradient(lambda at: (support.x @ at["w"] - support.y).square().mean(), meta, second_order=True)
    value = (query.x @ (meta["w"] - 0.1 * gradient["w"]) - query.y).square().mean()
    return value, {"loss": value, "threads": torch.tensor(float(torch.get_num_threads()))}


def own_gradient(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
    return {"w": support.x[0] * meta["w"]}, {"y": query.y}


def dropped(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    kept = F.dropout(torch.ones(64, dtype=torch.float64))
    return meta["w"].sum() * kept.sum(), {"kept": kept}


def broken(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    assert support.number is not None
    if support.number == 4:
        raise ValueError("task 4 is broken")
    return loss(meta, support, query, autodiff)


class PickyError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def picky(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    if support.number == 4:
        raise PickyError("this", "that")
    return loss(meta, support, query, autodiff)


def dying(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    if support.number == 4:
        os._exit(3)
    return loss(meta, support, query, autodiff)


@pytest.mark.parametrize("within", [None, Vmap()], ids=["loop", "vmap"])
@pytest.mark.parametrize("tasks", [5, 2, 1])
def test_they_give_the_loops_numbers(workers: Workers, tasks: int, within: Vmap | None) -> None:
    strategy = copy.copy(workers)
    strategy._others, strategy.within = workers._others, within or Loop()
    for method, task in (("mean_gradient", loss), ("mean_of_gradients", own_gradient)):
        found, beside = getattr(strategy, method)(task, META, made_tasks(tasks))
        expected, expected_beside = getattr(Loop(), method)(task, META, made_tasks(tasks))
        torch.testing.assert_close(found, dict(expected), rtol=1e-14, atol=1e-14)
        beside.pop("threads", None), expected_beside.pop("threads", None)
        torch.testing.assert_close(beside, expected_beside, rtol=1e-14, atol=1e-14)


RUNS: list[int] = []  # of Python, in each process


class Counting(nn.Module):
    """A loss that reads a buffer, and returns how often Python ran."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones((), dtype=torch.float64))

    def __call__(self, meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        RUNS.append(1)
        value, _ = loss(meta, support, query, autodiff)
        value = self.factor * value
        return value, {"loss": value, "runs": torch.tensor(float(len(RUNS)))}


def test_a_worker_records_once_and_sees_what_changes() -> None:
    strategy, task = Workers(processes=2, within=Vmap(traced=True, checked=False)), Counting()
    try:
        for factor in (1.0, 2.0, 3.0):
            task.factor.fill_(factor)
            meta = {"w": factor * META["w"]}
            found, outputs = strategy.mean_gradient(task, meta, made_tasks(4))
            expected, _ = Loop().mean_gradient(Counting(), meta, made_tasks(4))
            torch.testing.assert_close(found["w"], factor * expected["w"])
            assert outputs["runs"][-1] == 1  # of the other process
    finally:
        strategy.close()


def test_every_process_has_one_thread_and_this_one_gets_its_own_back(workers: Workers) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _, beside = workers.mean_gradient(loss, META, made_tasks())
        assert beside["threads"].tolist() == [1] * 5
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_drawn_at_random_follows_the_seed(workers: Workers) -> None:
    def draws(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return workers.mean_gradient(dropped, META, made_tasks())[1]["kept"]

    first = draws(0)
    assert torch.equal(draws(0), first)
    assert not torch.equal(draws(1), first)
    assert len({tuple(row.tolist()) for row in first}) == 5  # no two tasks alike, in one process or two


def test_a_workers_error_is_raised_here_and_the_next_call_works(workers: Workers) -> None:
    with pytest.raises(ValueError, match="task 4 is broken") as caught:
        workers.mean_gradient(broken, META, made_tasks())
    assert "in a worker process" in caught.value.__notes__[0]
    assert "line" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="PickyError: this and that"):  # cannot be made again from its message
        workers.mean_gradient(picky, META, made_tasks())
    assert torch.equal(workers.mean_gradient(loss, META, made_tasks(4))[1]["loss"].isfinite(), torch.ones(4) > 0)


def test_a_task_that_cannot_be_sent_is_an_error_not_a_hang(workers: Workers) -> None:
    with pytest.raises((AttributeError, TypeError), match=r"pickle|local"):
        workers.mean_gradient(lambda *arguments: loss(*arguments), META, made_tasks())
    workers.mean_gradient(loss, META, made_tasks())


def test_a_worker_that_dies_is_an_error_not_a_hang(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="ended by itself, with exit code 3"):
        workers.mean_gradient(dying, META, made_tasks())
    workers.mean_gradient(loss, META, made_tasks())


def test_an_interrupt_is_for_the_main_process(workers: Workers) -> None:
    workers.mean_gradient(loss, META, made_tasks())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        workers._others[0]._process.send_signal(number)
    workers.mean_gradient(loss, META, made_tasks())


def test_copies_start_processes_of_their_own(workers: Workers) -> None:
    workers.mean_gradient(loss, META, made_tasks())
    assert workers._others
    assert copy.deepcopy(workers)._others == []


def test_a_process_ends_when_the_other_end_of_its_pipe_is_gone(workers: Workers) -> None:
    """As it is when the main process is killed."""
    workers.mean_gradient(loss, META, made_tasks())
    (other,) = workers._others
    other._pipe.close()
    assert other._process.wait(timeout=60) == 0
    workers.close()


def test_the_main_process_alone_needs_no_other() -> None:
    strategy = Workers(processes=1)
    strategy.mean_gradient(loss, META, made_tasks())
    assert strategy._others == []
    doubled = strategy.map(lambda tree, autodiff: {"y": 2 * tree["x"]}, {"x": torch.arange(3.0)})
    assert doubled["y"].tolist() == [0, 2, 4]


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(UserError, match=r"over_tasks\.processes=0"):
        Workers(processes=0)
    with pytest.raises(UserError, match="runs on the CPU alone"):
        Workers(processes=2).mean_gradient(loss, {"w": torch.ones(3, device="meta")}, made_tasks())


def test_tensors_travel_by_shared_memory() -> None:
    here = Arena()
    there = Arena(here.descriptor)
    net = nn.Linear(3, 2)
    net.weight.requires_grad_(False)
    sent = {"net": net, "empty": torch.empty(0, 2), "numbers": torch.arange(5).flip(0)[::2], "flag": torch.tensor(True)}
    pickled = here.dumps(sent)
    found = there.loads(pickled)
    assert torch.equal(found["numbers"], sent["numbers"])
    assert found["empty"].shape == (0, 2)
    assert found["flag"].item() is True
    assert [type(p) for p in found["net"].parameters()] == [nn.Parameter] * 2
    assert [p.requires_grad for p in found["net"].parameters()] == [False, True]
    large = torch.randn(2**20)  # more than the arena had
    pickled = here.dumps(large)
    assert len(pickled) < 1000
    assert torch.equal(there.loads(pickled), large)


def test_the_outer_step_changes_no_request() -> None:
    """Otherwise a worker would read, and record, every step as a new one."""
    task: Any = None
    first, later = (
        InnerProblem(task, GradientDescent(META, 0.1), weights=(0.0, 1.0), steps=1, outer_step=step) for step in (3, 4)
    )
    arena = Arena()
    assert arena.dumps((first, META)) == arena.dumps((later, META))
