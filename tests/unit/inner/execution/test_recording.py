"""Recordings of tensor operations: the function's numbers, what is read anew, and what is constant."""

import copy
import pickle

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution import over_tasks
from metaloop.inner.execution.over_tasks import Loop, Vmap
from metaloop.inner.execution.recording import recorded
from metaloop.types import Examples, Params, Tasks

calls: list[int] = []


def made_tasks(tasks: int = 3, seed: int = 0) -> Tasks:
    random = torch.Generator().manual_seed(seed)

    def examples() -> Examples:
        return Examples(*(torch.randn(tasks, *shape, generator=random, dtype=torch.float64) for shape in ((4, 3), (4,))))

    return Tasks(examples(), examples(), torch.arange(tasks))


def loss(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    calls.append(1)
    gradient, _ = autodiff.gradient(lambda at: (support.x @ at["w"] - support.y).pow(4).mean(), meta, second_order=True)
    value = (query.x @ (meta["w"] - 0.1 * gradient["w"]) - query.y).square().mean()
    return value, {"loss": value}


def meta_of(*numbers: float) -> Params:
    return {"w": torch.tensor(numbers, dtype=torch.float64)}


def test_a_recording_gives_the_loops_numbers_for_other_tasks_and_parameters_without_the_function() -> None:
    strategy = Vmap(traced=True)
    strategy.mean_gradient(loss, meta_of(1, -2, 0.5), made_tasks())
    calls.clear()
    for seed, meta in enumerate([meta_of(1, -2, 0.5), meta_of(-1, 0.3, 2)]):
        found = strategy.mean_gradient(loss, meta, made_tasks(seed=seed + 1))
        assert not calls
        torch.testing.assert_close(found, Loop().mean_gradient(loss, meta, made_tasks(seed=seed + 1)), rtol=1e-12, atol=0)
        calls.clear()


def test_other_shapes_are_recorded_apart_and_too_many_kinds_run_as_they_are(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(over_tasks, "_MOST_TRACES", 2)
    strategy = Vmap(traced=True, checked=False)
    for count in (1, 2, 3, 4):
        tasks = made_tasks(count)
        found = strategy.mean_gradient(loss, meta_of(1, 1, 1), tasks)
        torch.testing.assert_close(found, Loop().mean_gradient(loss, meta_of(1, 1, 1), tasks), rtol=1e-12, atol=0)
    assert len(strategy._recorded) == 2


def test_what_the_function_reads_beside_its_arguments_is_read_again() -> None:
    net = nn.BatchNorm1d(3, affine=False).double().eval()  # its buffers are no arguments

    def scaled(x: Tensor) -> Tensor:
        result: Tensor = functional_call(net, {}, (x,))
        return result

    x = torch.ones(2, 3, dtype=torch.float64)
    again = recorded(scaled, (x,), compiled=False)
    assert net.running_mean is not None
    net.running_mean.fill_(0.5)
    torch.testing.assert_close(again(x), scaled(x))
    assert float(again(x)[0, 0]) < 0.6


def test_a_copy_and_a_sent_strategy_have_no_recordings() -> None:
    strategy = Vmap(traced=True)
    strategy.mean_gradient(loss, meta_of(1, 1, 1), made_tasks())
    assert strategy._recorded
    for other in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert not other._recorded
        assert other.name == "traced vmap"
