"""Strategies on their own, and the scalar that carries a gradient."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap, with_gradient
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


def with_every_field() -> Tasks:
    """Five tasks whose every field is filled, also those that are added after this test was written."""
    shapes = iter(range(100))

    def filled(kind: type[Examples] | type[Tasks], **given: object) -> dict[str, object]:
        rest = [field for field in fields(kind) if field.name not in given]
        return {f.name: 4 if f.type is int else torch.randn(5, 2 + next(shapes)) for f in rest} | given

    support, query = (Examples(**filled(Examples, x={"ids": torch.randn(5, 3), "mask": torch.randn(5, 3)})) for _ in range(2))
    return Tasks(**filled(Tasks, support=support, query=query))


def every_leaf(tasks: Tasks) -> list[Tensor]:
    parts = [vars(tasks), vars(tasks.support), vars(tasks.query), tasks.support.x, tasks.query.x]
    return [value for part in parts for value in part.values() if isinstance(value, Tensor)]


def test_a_tree_of_tasks_holds_every_field() -> None:
    tasks = with_every_field()
    leaves, layout = tree_flatten(tasks)
    assert {id(leaf) for leaf in leaves} == {id(leaf) for leaf in every_leaf(tasks)}
    again = tree_unflatten(leaves, layout)
    assert (again.support.ways, again.query.ways) == (4, 4)
    assert all(a is b for a, b in zip(every_leaf(again), every_leaf(tasks), strict=True))
    doubled = tasks.map(lambda tensor: 2 * tensor)
    assert all(torch.equal(a, 2 * b) for a, b in zip(every_leaf(doubled), every_leaf(tasks), strict=True))
    assert all(torch.equal(a, b[1:3]) for a, b in zip(every_leaf(tasks[1:3]), every_leaf(tasks), strict=True))
    examples, number = tasks.support.map(lambda tensor: 2 * tensor), tasks.support.number
    assert examples.number is number  # a task's number has no examples axis
    assert all(
        torch.equal(vars(examples)[n], 2 * v) for n, v in vars(tasks.support).items() if n not in ("x", "ways", "number")
    )


@every_strategy
def test_a_task_gets_every_field_of_its_examples(strategy: OverTasks) -> None:
    tasks = with_every_field()
    looked_at = []

    def own(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
        looked_at.append({name for part in (support, query) for name, value in vars(part).items() if value is None})
        return {"w": meta["w"]}, {n: v for n, v in vars(support).items() if n not in ("x", "ways")} | dict(support.x)

    _, aside = strategy.mean_of_gradients(own, {"w": torch.zeros(1)}, tasks)
    mapped = strategy.map(lambda tree, autodiff: tree, tasks)
    assert not set().union(*looked_at)
    expected = {n: v for n, v in vars(tasks.support).items() if n not in ("x", "ways")} | dict(tasks.support.x)
    assert aside.keys() == expected.keys()
    assert all(torch.equal(aside[name], value) for name, value in expected.items())
    assert all(torch.equal(a, b) for a, b in zip(every_leaf(mapped), every_leaf(tasks), strict=True))


def test_compiled_code_is_not_shared_between_a_mask_and_what_has_its_shape() -> None:
    strategy, w = Vmap(compiled=True), torch.ones(1)
    one = Examples(torch.randn(5, 2), torch.randn(5, 2))

    def task(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Tensor, Params]:
        extra = support.mask if support.sequence is None else -support.sequence
        assert extra is not None
        value = (meta["w"] * extra).sum()
        return value, {"loss": value}

    for field, sign in (("mask", 1), ("sequence", -1), ("mask", 1)):
        tasks = Tasks(replace(one, **{field: torch.ones(5, 2)}), one, torch.arange(5))
        gradients, _ = strategy.mean_gradient(task, {"w": w}, tasks)
        assert gradients["w"] == 2 * sign
