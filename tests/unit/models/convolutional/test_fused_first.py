"""The fused first block is the plain composition, twice differentiable, where it can be used, and elsewhere is not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.models.convolutional import fused, fused_first
from metaloop.models.convolutional.conv4 import Conv4

EPS = 1e-5
SHAPES = [(5, 1, 28, 28), (3, 2, 7, 5), (4, 1, 2, 2), (2, 3, 9, 13), (1, 1, 5, 4)]

pytestmark = pytest.mark.skipif(not fused.usable(torch.zeros(1)), reason="no compiler")


def plain(x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = F.batch_norm(F.conv2d(x, kernel, padding=1), None, None, None, None, True, 0.1, EPS)
    return F.max_pool2d(F.relu(y * weight[:, None, None] + bias[:, None, None]), 2)


def own(x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return fused_first.first_block(x, kernel, weight, bias, EPS)


def made(shape: tuple[int, ...], filters: int = 16) -> tuple[Tensor, list[Tensor]]:
    random = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random, dtype=torch.float64)

    parameters = [normal(filters, shape[1], 3, 3), normal(filters), normal(filters)]
    parameters[1][1] = 0  # all places of a window tie
    return normal(*shape), parameters


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("filters", [8, 16, 64])
def test_two_derivatives(shape: tuple[int, ...], filters: int) -> None:
    x, parameters = made(shape, filters)
    found, expected = [], []
    for op, results in ((own, found), (plain, expected)):
        leaves = [each.clone().requires_grad_() for each in parameters]
        out = op(x, *leaves)
        torch.manual_seed(1)
        along = torch.randn(out.shape, dtype=out.dtype).requires_grad_()
        first = torch.autograd.grad(out, leaves, along, create_graph=True)
        directions = [torch.randn(each.shape, dtype=each.dtype) for each in first]
        second = torch.autograd.grad(first, [along, *leaves], directions, materialize_grads=True, allow_unused=True)
        results += [out, *first, *second]
    for left, right in zip(found, expected, strict=True):
        assert left.shape == right.shape
        assert (left - right).norm() <= 1e-11 * (right.norm() + 1)


def test_single_precision_keeps_its_digits() -> None:
    x, parameters = made((64, 1, 28, 28))
    exact = plain(x, *parameters)
    assert ((own(x.float(), *(each.float() for each in parameters)) - exact).abs().max() / exact.abs().max()) < 1e-5


def test_there_is_no_third_derivative() -> None:
    x, parameters = made((2, 1, 4, 4))
    leaves = [each.requires_grad_() for each in parameters]
    first = torch.autograd.grad(own(x, *leaves).square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), leaves, create_graph=True)
    with pytest.raises(NotImplementedError, match="kernels=false"):
        torch.autograd.grad(second[0].square().sum(), leaves, allow_unused=True)


def test_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where images are differentiated, mapped, of many channels, or somebody watches the convolution."""
    calls = []
    used = fused_first.first_block
    monkeypatch.setattr(fused_first, "first_block", lambda *arguments: calls.append(1) or used(*arguments))
    net = Conv4((1, 16, 16), 3, filters=8).double()
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)

    def uses(run: object) -> int:
        calls.clear()
        run()
        return len(calls)

    assert uses(lambda: net(x)) == 1
    assert uses(lambda: net(x.clone().requires_grad_())) == 0
    assert uses(lambda: torch.func.vmap(net)(x[None])) == 0
    assert uses(lambda: Conv4((3, 16, 16), 3, filters=8)(torch.randn(4, 3, 16, 16))) == 0
    assert uses(lambda: Conv4((1, 16, 16), 3, filters=8, kernels=False)(x.float())) == 0
    assert uses(lambda: Conv4((1, 16, 16), 3, filters=8, norm="layer")(x.float())) == 0
    assert uses(lambda: Conv4((1, 16, 16), 3, filters=8, downsample="stride")(x.float())) == 0
    hook = net.blocks[0].conv.register_forward_hook(lambda *_: None)
    assert uses(lambda: net(x)) == 0
    hook.remove()
    net.blocks[0].conv.bias = nn.Parameter(torch.zeros(8, dtype=torch.float64))
    assert uses(lambda: net(x)) == 0


def test_images_that_are_differentiated_get_their_gradient() -> None:
    net = Conv4((1, 16, 16), 3, filters=8).double()
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(lambda at: net(at).square().sum(), x)
    step = torch.randn_like(x)
    values = [net(x + sign * 1e-6 * step).square().sum().item() for sign in (1, -1)]
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((gradient * step).sum().item(), rel=1e-5)
