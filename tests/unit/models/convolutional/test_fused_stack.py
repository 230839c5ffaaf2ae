"""Blocks in one kernel are the plain composition, twice differentiable, in a loop and under vmap, and where they can run."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from metaloop.models.convolutional import fused, fused_stack
from metaloop.models.convolutional.conv4 import Conv4, ConvBlock
from metaloop.models.norm import observing
from metaloop.system.operators import recordable

EPS = 1e-5
CASES = [  # images, filters and strides
    ((5, 1, 13, 14), (64, 24, 16, 16), (2, 2, 2, 2)),
    ((7, 2, 9, 6), (16, 8, 24), (2, 1, 2)),
    ((1, 3, 6, 5), (8,), (2,)),
    ((2, 12, 4, 4), (8, 16), (1, 2)),
]
Parameters = list[Tensor]  # kernel, scale and offset of each block
Op = Callable[..., Tensor]

pytestmark = pytest.mark.skipif(not fused.usable(torch.zeros(1)), reason="no C++ compiler")


def plain(x: Tensor, *parameters: Tensor, strides: Sequence[int]) -> Tensor:
    for i, stride in enumerate(strides):
        kernel, scale, offset = parameters[3 * i : 3 * i + 3]
        y = F.conv2d(x, kernel, stride=stride, padding=1)
        u = (y - y.mean((0, 2, 3), keepdim=True)) * (y.var((0, 2, 3), correction=0, keepdim=True) + EPS).rsqrt()
        x = F.relu(u * scale[:, None, None] + offset[:, None, None])
    return x


def own(x: Tensor, *parameters: Tensor, strides: Sequence[int]) -> Tensor:
    triples = list(zip(parameters[::3], parameters[1::3], parameters[2::3], strict=True))
    return fused_stack.blocks(x, triples, strides, EPS, [None] * len(strides))


def made(shape: tuple[int, ...], filters: Sequence[int], tasks: tuple[int, ...] = ()) -> tuple[Tensor, Parameters]:
    random = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=random, dtype=torch.float64)

    x, parameters, depth = normal(*tasks, *shape), [], shape[1]
    for width in filters:
        parameters += [normal(*tasks, width, depth, 3, 3), normal(*tasks, width), normal(*tasks, width)]
        depth = width
    return x, parameters


def values_and_derivatives(op: Op, x: Tensor, parameters: Parameters) -> list[Tensor]:
    """The result, its gradients along one direction, and the gradients of those along another."""
    torch.manual_seed(1)
    leaves = [each.clone().requires_grad_() for each in parameters]
    out = op(x, *leaves)
    along = torch.randn(out.shape, dtype=torch.float64).to(x.dtype).requires_grad_()
    first = torch.autograd.grad(out, leaves, along, create_graph=True)
    directions = [torch.randn(each.shape, dtype=torch.float64).to(x.dtype) for each in first]
    second = torch.autograd.grad(first, [along, *leaves], directions)
    return [out, *first, *second]


def nearly_equal(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-11) -> None:
    for left, right in zip(found, expected, strict=True):
        assert left.shape == right.shape
        assert (left - right).norm() <= tolerance * (right.norm() + 1)


@pytest.mark.parametrize(("shape", "filters", "strides"), CASES)
def test_two_derivatives(shape: tuple[int, ...], filters: tuple[int, ...], strides: tuple[int, ...]) -> None:
    x, parameters = made(shape, filters)
    expected = values_and_derivatives(partial(plain, strides=strides), x, parameters)
    nearly_equal(values_and_derivatives(partial(own, strides=strides), x, parameters), expected)
    single = values_and_derivatives(partial(own, strides=strides), x.float(), [each.float() for each in parameters])
    nearly_equal(single, expected, 3e-5)


def test_finite_differences_agree() -> None:
    x, parameters = made((3, 1, 5, 5), (8, 8))
    leaves = [each.requires_grad_() for each in parameters]
    op = partial(own, x, strides=(2, 2))
    assert torch.autograd.gradcheck(op, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(op, leaves, fast_mode=True)


def test_a_gradient_of_gradients_alone() -> None:
    """The outputs themselves then have no gradient."""
    x, parameters = made((3, 1, 9, 9), (8, 8))
    along = torch.randn(3, 8, 3, 3, dtype=torch.float64)
    found = []
    for op in (own, plain):
        leaves = [each.clone().requires_grad_() for each in parameters]
        first = torch.autograd.grad(op(x, *leaves, strides=(2, 2)), leaves, along, create_graph=True)
        found.append(torch.autograd.grad(sum((each**2).sum() for each in first), leaves))
    nearly_equal(*found)


def adapted_loss(op: Op, shared: Parameters, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The loss on y after a step on x, in which one parameter is each task's own from the start."""

    def loss(parameters: Parameters, images: Tensor) -> Tensor:
        return (op(images, *parameters, strides=(2, 2)) ** 3).mean()

    parameters = [*shared[:4], scale, *shared[5:]]
    steps = torch.func.grad(loss)(parameters, x)
    return loss([value - 0.1 * step for value, step in zip(parameters, steps, strict=True)], y)


def test_under_vmap_with_parameters_of_all_and_of_each() -> None:
    _, shared = made((3, 2, 6, 7), (8, 16))
    x, (_, _, _, _, scale, _) = made((3, 2, 6, 7), (8, 16), tasks=(4,))
    mapped = torch.func.vmap(partial(adapted_loss, own), in_dims=(None, 0, 1, 0))
    found = torch.func.grad(lambda *at: mapped(*at, x.movedim(0, 1), 2 * x).sum(), argnums=(0, 1))(shared, scale)

    def in_a_loop(shared: Parameters, scale: Tensor) -> Tensor:
        return torch.stack([adapted_loss(plain, shared, scale[i], x[i], 2 * x[i]) for i in range(4)]).sum()

    expected = torch.func.grad(in_a_loop, argnums=(0, 1))(shared, scale)
    nearly_equal([*found[0], found[1]], [*expected[0], expected[1]])


def test_a_vmap_within_a_vmap() -> None:
    x, parameters = made((3, 1, 5, 6), (8, 8), tasks=(2, 3))
    parameters[0], parameters[2] = parameters[0][:, 0], parameters[2][0, 0]  # of each outer task; of all

    def mapped(op: Op) -> list[Tensor]:
        def gradients(x: Tensor, *at: Tensor) -> tuple[Tensor, ...]:
            def first(*at: Tensor) -> Tensor:
                steps = torch.func.grad(lambda *p: (op(x, *p, strides=(2, 2)) ** 3).mean(), argnums=tuple(range(6)))(*at)
                return sum((step**2).sum() for step in steps)  # type: ignore[return-value]  # there is a step

            return torch.func.grad(first, argnums=tuple(range(6)))(*at)

        inner = torch.func.vmap(gradients, in_dims=(0, None, 0, None, 0, 0, 0))
        return list(torch.func.vmap(inner, in_dims=(0, 0, 0, None, 0, 0, 0))(x, *parameters))

    nearly_equal(mapped(own), mapped(plain))


def test_there_is_no_third_derivative() -> None:
    x, parameters = made((3, 1, 5, 5), (8, 8))
    leaves = [each.requires_grad_() for each in parameters]
    first = torch.autograd.grad((own(x, *leaves, strides=(2, 2)) ** 3).sum(), leaves, create_graph=True)
    second = torch.autograd.grad((first[0] ** 2).sum(), leaves, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"model\.kernels=false"):
        (second[0] ** 2).sum().backward()


def test_what_is_not_a_number_stays_so() -> None:
    x, parameters = made((3, 1, 5, 5), (8, 8))
    x[1, 0, 2, 2] = torch.nan
    assert own(x, *parameters, strides=(2, 2)).isnan().all()


def test_running_averages_move_the_same_with_and_without() -> None:
    x, found = torch.randn(6, 1, 12, 9, dtype=torch.float64), []
    for kernels in (True, False):
        torch.manual_seed(0)
        net = Conv4((1, 12, 9), 5, filters=8, downsample="stride", norm="running", kernels=kernels).double()
        with observing(net):
            net(x)
        found.append(dict(net.named_buffers()))
    nearly_equal(list(found[0].values()), list(found[1].values()), 1e-9)
    assert all((value != (1.0 if name.endswith("var") else 0.0)).all() for name, value in found[0].items())


class OtherBlock(ConvBlock):
    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return super().forward(x, weight) + 1


def test_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, used = [], fused_stack.blocks
    monkeypatch.setattr(fused_stack, "blocks", lambda *arguments: calls.append(1) or used(*arguments))
    x = torch.randn(4, 1, 16, 16)

    def uses(net: nn.Module, *arguments: Tensor) -> int:
        calls.clear()
        assert net(*(arguments or (x,))).shape == (4, 3)
        return len(calls)

    def strided(**settings: object) -> Conv4:
        return Conv4((1, 16, 16), 3, **{"filters": 8, "downsample": "stride", **settings})

    assert uses(strided()) == uses(strided(norm="support")) == uses(strided(halvings=2)) == 1
    others = [{"downsample": "pool"}, {"norm": "layer"}, {"norm": "none"}, {"filters": 12}, {"kernels": False}, {"halvings": 0}]
    assert not any(uses(strided(**settings)) for settings in others)
    assert not uses(strided(norm="running").eval())
    assert not uses(strided(), x, torch.ones(4))
    assert not uses(strided(), x.clone().requires_grad_())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not uses(strided())
    for name in ("blocks.1", "blocks.1.conv", "blocks.2.norm", "blocks.3.pool"):
        net = strided()
        net.get_submodule(name).register_forward_hook(lambda *_: None)
        assert not uses(net), name
    net = strided()
    net.blocks[2] = OtherBlock(8, 8, "batch", "stride", True)
    assert not uses(net)
    monkeypatch.setattr(fused_stack, "library", lambda name: None)
    assert not uses(strided())


def test_images_that_are_differentiated_get_their_gradient() -> None:
    """Also under transforms, at any level."""
    torch.manual_seed(0)
    net = Conv4((1, 16, 16), 3, filters=8, downsample="stride").double()
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda at: net(at).square().sum(), x)
    nearly_equal([torch.func.grad(lambda at: net(at).square().sum())(x)], [expected])
    mapped = torch.func.grad(lambda at: torch.func.vmap(lambda each: net(each).square().sum())(at[None]).sum())(x)
    nearly_equal([mapped], [expected])
    assert expected.norm() > 0


def test_a_trace_records_the_kernels_and_gives_their_numbers() -> None:
    _, shared = made((3, 2, 6, 7), (8, 16))
    x, _ = made((3, 2, 6, 7), (8,), (4,))

    def meta_gradient(images: Tensor, *parameters: Tensor) -> list[Tensor]:
        def total(at: Parameters) -> Tensor:
            each = torch.func.vmap(lambda one: adapted_loss(own, at, at[4], one, one.flip(0)))
            result: Tensor = each(images).sum()
            return result

        return list(torch.func.grad(total)(list(parameters)))

    with recordable():
        graph = make_fx(meta_gradient)(x, *shared)
    assert sum("metaloop.kernel" in str(node.target) for node in graph.graph.nodes) == 6
    others = [1.1 * each for each in shared]
    nearly_equal(graph(x + 1, *others), meta_gradient(x + 1, *others))
