"""Strategies on their own, and the scalar that carries a gradient."""

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap, pack, tree_map, unpack, with_gradient
from metaloop.types import Examples, Params, Tasks

every_strategy = pytest.mark.parametrize("strategy", [Loop(), Vmap(), Vmap(chunk=2)], ids=lambda s: s.name)


def made_tasks() -> Tasks:
    def examples(mask: bool) -> Examples:
        return Examples(torch.randn(5, 2, 3), torch.randn(5, 2), torch.ones(5, 2) > 0 if mask else None, 4)

    return Tasks(examples(True), examples(False), torch.arange(5))


def loss(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
    assert support.ways == 4
    assert support.mask is not None
    assert query.mask is None
    value = ((support.x @ meta["w"] - query.y) ** 2).sum()
    return value, {"loss": value, "first": support.x[0]}


@every_strategy
def test_the_mean_gradient_and_what_stands_beside_it(strategy: OverTasks) -> None:
    tasks, w = made_tasks(), torch.randn(3, requires_grad=True)
    gradients, aside = strategy.mean_gradient(loss, {"w": w}, tasks)
    losses = ((tasks.support.x @ w - tasks.query.y) ** 2).sum(1)
    torch.testing.assert_close(gradients["w"], torch.autograd.grad(losses.mean(), w)[0])
    torch.testing.assert_close(aside["loss"], losses.detach())
    assert torch.equal(aside["first"], tasks.support.x[:, 0])
    assert not gradients["w"].requires_grad
    assert not aside["loss"].requires_grad


@every_strategy
def test_gradients_made_by_the_task_are_averaged(strategy: OverTasks) -> None:
    tasks = made_tasks()

    def own(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        return {"w": support.x[0] * meta["w"]}, {"y": query.y}

    gradients, aside = strategy.mean_of_gradients(own, {"w": torch.full((3,), 2.0)}, tasks)
    torch.testing.assert_close(gradients["w"], 2 * tasks.support.x[:, 0].mean(0))
    assert torch.equal(aside["y"], tasks.query.y)


@every_strategy
def test_map_stacks_nested_results(strategy: OverTasks) -> None:
    trees = {"a": torch.randn(5, 2), "b": {"c": torch.randn(5)}}
    out = strategy.map(lambda tree, autodiff: {"sum": {"all": tree["a"].sum() + tree["b"]["c"]}}, trees)
    torch.testing.assert_close(out["sum"]["all"], trees["a"].sum(1) + trees["b"]["c"])


def test_chunks_bound_how_many_tasks_run_at_once() -> None:
    assert Vmap(chunk=2).name == "vmap, chunks of 2"
    with pytest.raises(UserError, match=r"over_tasks\.chunk=0"):
        Vmap(chunk=0)


def test_a_scalar_carries_a_given_gradient() -> None:
    params = {"a": torch.ones(2, requires_grad=True), "b": torch.ones(1, requires_grad=True)}
    gradients = {"b": torch.tensor([7.0]), "a": torch.tensor([3.0, 5.0])}
    value = with_gradient(torch.tensor(2.0), params, gradients)
    assert value == 2
    (10 * value).backward()
    assert params["a"].grad is not None
    assert params["a"].grad.tolist() == [30, 50]
    assert params["b"].grad is not None
    assert params["b"].grad.tolist() == [70]


def test_examples_survive_packing() -> None:
    for mask in (None, torch.ones(1, 2, dtype=torch.bool)):
        examples = Examples({"ids": torch.ones(1, 2, 3)}, torch.zeros(1, 2), mask, 5)
        assert unpack(pack(examples), 5) == examples
        assert all(value is not None for value in pack(examples).values())
    assert tree_map(lambda a, b: a + b, {"x": {"y": torch.tensor(1)}}, {"x": {"y": torch.tensor(2)}}) == {"x": {"y": 3}}
