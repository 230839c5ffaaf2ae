"""Kernels in a trace: one operation each, with the numbers of a direct call, to the second derivative."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from metaloop.system.operators import Operator, recordable, untraced


class _Cube(Operator):
    """``scale x^3``; ``minus``, if there is one, is subtracted."""

    one = True

    @staticmethod
    def forward(x: Tensor, minus: Tensor | None, scale: float, shape: tuple[int, ...]) -> Tensor:
        cube = torch.from_numpy(scale * x.detach().numpy() ** 3).reshape(shape)  # numpy is no operation of torch
        return cube if minus is None else cube - minus

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, ctx.scale, _ = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * ctx.scale * outputs[0] * x * x, None, None, None


class _Two(Operator):
    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x + 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass


def cube(x: Tensor, minus: Tensor | None = None) -> Tensor:
    result: Tensor = _Cube.apply(x, minus, 2.0, tuple(x.shape))
    return result


def both_gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    def first(at: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(lambda inner: cube(inner).sum())(at)
        return gradient

    return first(x), torch.func.grad(lambda at: first(at).sum())(x)


def test_a_kernel_is_one_operation_of_a_trace_with_its_numbers_and_derivatives() -> None:
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    with recordable():
        graph = make_fx(both_gradients)(x)
    assert sum("metaloop.kernel" in str(node.target) for node in graph.graph.nodes) == 2
    other = torch.tensor([3.0, 0.1, -1.0], dtype=torch.float64)
    first, second = graph(other)
    torch.testing.assert_close(first, 6 * other**2)
    torch.testing.assert_close(second, 12 * other)


@pytest.mark.parametrize("minus", [None, torch.ones(2)])
def test_optional_tensors_and_several_results(minus: Tensor | None) -> None:
    x = torch.tensor([1.0, 2.0])
    with recordable():
        graph = make_fx(lambda at: (cube(at, minus), *_Two.apply(at)))(x)
    expected = 2 * (x + 1) ** 3 - (0 if minus is None else minus)
    for found, value in zip(graph(x + 1), (expected, x + 2, x + 3), strict=True):
        torch.testing.assert_close(found, value)


def test_a_kernel_is_not_called_where_a_tracer_would_miss_it() -> None:
    seen: list[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(untraced())
        return x + 1

    make_fx(look)(torch.ones(1))
    with recordable():
        make_fx(look)(torch.ones(1))
    assert seen == [False, True]
    assert untraced()
