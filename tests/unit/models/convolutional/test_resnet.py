"""Residual networks: sizes as published, dropping in training alone, vmap equal to the loop in second order."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.errors import UserError
from metaloop.models.convolutional.dropblock import DropBlock
from metaloop.models.convolutional.resnet import ResNet12, ResNet18, WideResNet

TINY = {
    "resnet12": lambda norm: ResNet12((1, 16, 16), 2, filters=[10] * 4, norm="layer" if norm == "group" else norm),
    "resnet18": lambda norm: ResNet18((1, 8, 8), 2, filters=16, norm=norm),
    "resnet18, large": lambda norm: ResNet18(
        (1, 32, 32), 2, filters=4, norm="layer" if norm == "group" else norm, stem="large"
    ),
    "wide": lambda norm: WideResNet((1, 8, 8), 2, depth=10, widen=1, norm="layer" if norm == "group" else norm),
}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_they_have_as_many_parameters_as_published() -> None:
    with torch.device("meta"):
        body = ResNet12((3, 84, 84), None)
        assert round(parameters(body) / 1e6, 1) == 12.4
        assert body.map_shape == (640, 5, 5)
        assert parameters(ResNet18((3, 224, 224), 1000, stem="large")) == 11_689_512
        assert parameters(ResNet18((3, 32, 32), 10)) == 11_173_962
        wide = WideResNet((3, 32, 32), 10)
        assert parameters(wide) == 36_479_194
        assert parameters(WideResNet((3, 32, 32), 100)) == 36_536_884
        assert wide.map_shape == (640, 8, 8)


@pytest.mark.parametrize("name", TINY)
def test_maps_are_what_features_average(name: str) -> None:
    model = TINY[name]("batch")
    side = 32 if "large" in name else 16 if name == "resnet12" else 8
    x = torch.randn(3, 1, side, side)
    answers = model(x)
    maps = model(x, maps=True)
    assert maps.shape == (3, *model.map_shape)
    torch.testing.assert_close(model.head(maps.mean((-2, -1))), answers)


def meta_gradients(model: nn.Module, vmapped: bool) -> dict[str, Tensor]:
    """Of one inner step, in float64, over two tasks."""
    torch.manual_seed(1)
    side = {ResNet12: 16, ResNet18: 8, WideResNet: 8}[type(model)]
    side = 32 if hasattr(model.stem, "layer") else side
    x, y = torch.randn(2, 6, 1, side, side, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0, 1])
    params = {name: value.detach().double() for name, value in model.named_parameters()}

    def loss(p: dict[str, Tensor], images: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, p, (images,)), y)

    def outer(p: dict[str, Tensor], images: Tensor) -> Tensor:
        gradient = torch.func.grad(loss)(p, images)
        return loss({name: p[name] - 0.1 * gradient[name] for name in p}, images.flip(0))

    if vmapped:
        return torch.func.grad(lambda p: torch.func.vmap(outer, (None, 0))(p, x).mean())(params)
    leaves = {name: value.requires_grad_() for name, value in params.items()}
    total = torch.zeros((), dtype=torch.float64)
    for images in x:
        inner = torch.autograd.grad(loss(leaves, images), list(leaves.values()), create_graph=True)
        adapted = {name: leaf - 0.1 * g for (name, leaf), g in zip(leaves.items(), inner, strict=True)}
        total = total + loss(adapted, images.flip(0)) / 2
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])  # the others are these to autograd
@pytest.mark.parametrize("name", TINY)
def test_second_order_under_vmap_equals_plain_autograd(name: str, norm: str) -> None:
    model = TINY[name](norm).double()
    loop, vmapped = meta_gradients(model, False), meta_gradients(model, True)
    for key, value in loop.items():
        torch.testing.assert_close(vmapped[key], value, rtol=1e-8, atol=1e-10, msg=key)


@pytest.mark.parametrize(("size", "side"), [(1, 9), (3, 9), (5, 9), (5, 3)])
def test_dropblock_drops_its_share_in_squares_and_keeps_the_mean(size: int, side: int) -> None:
    drop = DropBlock(0.1, size, 0)
    x = torch.ones(400, 8, side, side)
    found = drop(x)
    share = (found == 0).float().mean().item()
    assert 0.06 < share < 0.13
    assert abs(found.mean().item() - 1) < 1e-4
    assert found[found > 0].unique().numel() == 1
    one = (found[0, 0] == 0).nonzero()
    edge = min(size, side)
    for image in found.flatten(0, 1)[(found == 0).flatten(0, 1).flatten(1).sum(1) == edge**2][:20]:
        one = (image == 0).nonzero()
        assert (one.amax(0) - one.amin(0)).tolist() == [edge - 1, edge - 1]
    assert torch.equal(drop.eval()(x), x)


def test_dropblock_grows_with_passes_and_goes_on_from_a_checkpoint() -> None:
    drop, x = DropBlock(0.5, 1, 10), torch.ones(50, 8, 8, 8)
    shares = [(drop(x) == 0).float().mean().item() for _ in range(20)]
    assert abs(shares[0] - 0.05) < 0.01
    assert abs(shares[4] - 0.25) < 0.02
    assert abs(shares[15] - 0.5) < 0.02
    again = DropBlock(0.5, 1, 40)
    again.load_state_dict(drop.state_dict())
    assert abs((again(x) == 0).float().mean().item() - 0.5 * 21 / 40) < 0.02
    drop.eval()(x)
    assert drop.passes == 20


def test_dropblock_and_dropout_pass_vmap() -> None:
    x = torch.randn(2, 4, 1, 16, 16)
    for model in (
        ResNet12((1, 16, 16), 2, filters=[8] * 4, drop_rate=0.3, drop_ramp=3),
        WideResNet((1, 16, 16), 2, depth=10, widen=1, dropout=0.3),
    ):
        assert torch.func.vmap(model, randomness="different")(x).isfinite().all()
        assert not torch.equal(model(x[0]), model(x[0]))
        model.eval()
        assert torch.equal(model(x[0]), model(x[0]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ResNet12((5,), 2), "takes images"),
        (lambda: ResNet12((3, 8, 8), 2), "below 16x16"),
        (lambda: ResNet12((3, 32, 32), 2, filters=[8]), "four numbers"),
        (lambda: ResNet12((3, 32, 32), 2, drop_rate=1.0), "drop_rate=1.0"),
        (lambda: ResNet18((3, 32, 32), 2, stem="tiny"), "model.stem='tiny'"),
        (lambda: WideResNet((3, 32, 32), 2, depth=27), "6 n"),
        (lambda: WideResNet((3, 32, 32), 2, dropout=1.0), "model.dropout=1.0"),
        (lambda: ResNet18((3, 32, 32), 2, norm="instance"), "model.norm='instance'"),
    ],
)
def test_what_they_refuse(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]
