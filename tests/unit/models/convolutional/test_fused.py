"""Our own kernels against the plain composition, and when they stay out of the way."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.models.convolutional import fused, fused_stack, native
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.norm import observing

Op = Callable[..., Tensor]
SHAPES = [(5, 8, 6, 7), (3, 24, 7, 5), (2, 64, 3, 3), (40, 16, 9, 9)]
EPS = 1e-5

pytestmark = pytest.mark.skipif(native.library("conv_block") is None, reason="no C++ compiler")


def plain(x: Tensor, weight: Tensor, bias: Tensor, pool: bool) -> Tensor:
    y = F.relu(F.batch_norm(x, None, None, None, None, True, 0.1, EPS) * weight[:, None, None] + bias[:, None, None])
    return F.max_pool2d(y, 2) if pool else y


def kernel(x: Tensor, weight: Tensor, bias: Tensor, pool: bool) -> Tensor:
    return fused.norm_relu_pool(x, weight, bias, EPS, pool)


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, stride=2, padding=1)


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, tasks: tuple[int, ...] = ()) -> list[Tensor]:
    torch.manual_seed(0)
    made = [torch.randn(*tasks, *shape), torch.randn(*tasks, shape[1]), torch.randn(*tasks, shape[1])]
    made[1][..., 1] = 0  # all places of a window tie
    return [each.to(dtype) for each in made]


def values_and_derivatives(op: Op, *arguments: Tensor) -> list[Tensor]:
    """The result, its gradients along one direction, and the gradients of those along another."""
    torch.manual_seed(1)
    leaves = [each.clone().requires_grad_() for each in arguments]
    out = op(*leaves)
    along = torch.randn(out.shape, dtype=out.dtype).requires_grad_()
    first = torch.autograd.grad(out, leaves, along, create_graph=True)
    directions = [torch.randn(each.shape, dtype=each.dtype) for each in first]
    second = torch.autograd.grad(first, [along, *leaves], directions, materialize_grads=True, allow_unused=True)
    return [out, *first, *second]


def nearly_equal(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-11) -> None:
    for left, right in zip(found, expected, strict=True):
        assert left.shape == right.shape
        assert (left - right).norm() <= tolerance * (right.norm() + 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_two_derivatives_of_norm_relu_pool(shape: tuple[int, ...], pool: bool, layout: torch.memory_format) -> None:
    x, weight, bias = inputs(shape)
    x = x.to(memory_format=layout)
    expected = values_and_derivatives(partial(plain, pool=pool), x, weight, bias)
    nearly_equal(values_and_derivatives(partial(kernel, pool=pool), x, weight, bias), expected)


@pytest.mark.parametrize("shape", [(5, 1, 28, 28), (2, 3, 7, 5), (3, 16, 2, 2), (4, 8, 1, 1)])
def test_two_derivatives_of_the_convolution(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape, dtype=torch.float64), torch.randn(8, shape[1], 3, 3, dtype=torch.float64)
    found = values_and_derivatives(partial(fused.convolution, stride=2), x, weight)
    nearly_equal(found, values_and_derivatives(convolved, x, weight))


@pytest.mark.parametrize("pool", [True, False])
def test_they_work_under_vmap(pool: bool) -> None:
    """Also with weights that all tasks share, and for gradients of gradients."""
    x, weight, bias = inputs((3, 8, 6, 6), tasks=(4,))
    filters = torch.randn(8, 8, 3, 3, dtype=torch.float64)

    def meta(op: Op, convolution: Op, shared: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        def loss(filters: Tensor, weight: Tensor) -> Tensor:
            return (op(convolution(x, filters), weight, bias, False) ** 2).mean() + op(x, weight, bias, pool).mean()

        steps = torch.func.grad(loss, argnums=(0, 1))(shared, weight)
        return loss(shared - steps[0], weight - steps[1])

    def gradient(op: Op, convolution: Op) -> tuple[Tensor, ...]:
        def total(shared: Tensor, weight: Tensor) -> Tensor:
            mapped = torch.func.vmap(partial(meta, op, convolution), in_dims=(None, 0, 0, 0))
            return mapped(shared, x, weight, bias).sum()

        return torch.func.grad(total, argnums=(0, 1))(filters, weight)

    found = gradient(kernel, partial(fused.convolution, stride=2))
    nearly_equal(list(found), list(gradient(plain, convolved)))


def test_the_mapped_axis_may_stand_anywhere() -> None:
    x, weight, bias = inputs((3, 8, 6, 6), tasks=(4,))
    expected = torch.stack([kernel(*each, True) for each in zip(x, weight, bias, strict=True)])
    moved = x.movedim(0, 2), weight.movedim(0, 1), bias
    found = torch.func.vmap(partial(kernel, pool=True), in_dims=(2, 1, 0), out_dims=3)(*moved)
    torch.testing.assert_close(found.movedim(3, 0), expected)


def test_single_precision_keeps_its_digits_on_large_maps_far_from_zero() -> None:
    x, weight, bias = inputs((75, 8, 42, 42))
    x = 30 + x
    expected = values_and_derivatives(partial(plain, pool=True), x, weight, bias)
    found = values_and_derivatives(partial(kernel, pool=True), *(each.float() for each in (x, weight, bias)))
    assert (found[0] - expected[0]).abs().max() < 1e-4


def test_what_is_not_a_number_stays_so() -> None:
    x, weight, bias = inputs(SHAPES[0])
    x[0, 3, 0, 0] = torch.nan
    out = kernel(x, weight, bias, True)
    assert out[:, 3].isnan().all()
    assert not out[:, :3].isnan().any()


def test_there_is_no_third_derivative() -> None:
    x, weight, bias = (each.requires_grad_() for each in inputs(SHAPES[0]))
    first = torch.autograd.grad(kernel(x, weight, bias, True).square().sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match=r"model\.kernels=false"):
        second.sum().backward()


@pytest.mark.parametrize("norm", ["batch", "support", "running"])
@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_conv4_answers_the_same_with_and_without(downsample: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = Conv4((3, 20, 17), 5, filters=8, downsample=downsample, norm=norm).double()
    x, used = torch.randn(6, 3, 20, 17, dtype=torch.float64), []
    own = fused.norm_relu_pool
    monkeypatch.setattr(fused, "norm_relu_pool", lambda *arguments: used.append(1) or own(*arguments))
    if downsample == "stride":  # they would be one kernel
        monkeypatch.setattr(fused_stack, "library", lambda name: None)
    with_kernels = net(x)
    assert len(used) == 4
    for block in net.blocks:
        block.kernels = False
    torch.testing.assert_close(net(x), with_kernels, rtol=1e-10, atol=1e-10)
    assert len(used) == 4


@pytest.mark.parametrize("channels", [1, 3])  # with one, the first block is a kernel of its own
def test_running_averages_move_the_same_with_and_without(channels: int) -> None:
    x, found = torch.randn(6, channels, 20, 17, dtype=torch.float64), []
    for kernels in (True, False):
        torch.manual_seed(0)
        net = Conv4((channels, 20, 17), 5, filters=8, norm="running", kernels=kernels).double()
        with observing(net):
            net(x)
        found.append(dict(net.named_buffers()))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-9, atol=1e-9)
        assert (value != (1.0 if name.endswith("var") else 0.0)).all()


def test_hooks_and_other_modes_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "norm_relu_pool", lambda *arguments: pytest.fail("not what the model says"))
    x = torch.randn(6, 1, 16, 16)
    for norm in ("group", "layer", "none"):
        Conv4((1, 16, 16), 5, filters=16, norm=norm)(x)
    Conv4((1, 16, 16), 5, filters=8, norm="running").eval()(x)
    Conv4((1, 16, 16), 5, filters=12)(x)
    Conv4((1, 16, 16), 5, filters=8, kernels=False)(x)
    Conv4((1, 16, 16), 5, filters=8)(x, torch.ones(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Conv4((1, 16, 16), 5, filters=8)(x)
    hooked, seen = Conv4((1, 16, 16), 5, filters=8), []
    for block in hooked.blocks:
        block.norm.register_forward_hook(lambda *arguments: seen.append(1))
    hooked(x)
    assert len(seen) == 4


def test_a_hook_on_a_strided_convolution_is_called() -> None:
    net, seen = Conv4((1, 16, 16), 5, filters=8, downsample="stride"), []
    net.blocks[1].conv.register_forward_hook(lambda *arguments: seen.append(1))
    net(torch.randn(6, 1, 16, 16))
    assert seen == [1]


def test_without_a_compiler_all_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    assert native.library("conv_block") is None
    monkeypatch.setattr(fused, "library", native.library)
    assert not fused.usable(torch.ones(1))
    assert Conv4((1, 16, 16), 5, filters=8)(torch.randn(6, 1, 16, 16)).shape == (6, 5)


def test_a_library_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("METALOOP_CACHE", str(tmp_path / "cache"))  # which may come from a stranger
    find = native.library.__wrapped__
    assert find("conv_block") is not None
    (kept,) = tmp_path.glob("metaloop/*.so")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(native, "_compile", lambda *arguments: pytest.fail("compiled again"))
    assert find("conv_block") is not None
    assert [kept] == list(tmp_path.glob("metaloop/*.so"))


def test_a_traced_model_uses_no_memory_of_tensors_that_have_none() -> None:
    net = Conv4((1, 16, 16), 5, filters=8)
    from torch.fx.experimental.proxy_tensor import make_fx

    x = torch.randn(6, 1, 16, 16)
    graph = make_fx(lambda x: nn.Module.__call__(net, x))(x)
    other = torch.randn(6, 1, 16, 16)
    torch.testing.assert_close(graph(other), net(other), rtol=1e-4, atol=1e-4)
