"""Torch's norm layers with forward passes of our own."""

import copy

import pytest
import torch
from torch import nn

from metaloop.models.norm import observing
from metaloop.models.torch_norms import with_own_norms

LAYERS = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (5, 6)),
    "BatchNorm1d, places": (lambda: nn.BatchNorm1d(6, momentum=None), (5, 6, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(6, affine=False), (5, 6, 3, 2)),
    "BatchNorm2d, untracked": (lambda: nn.BatchNorm2d(6, track_running_stats=False), (5, 6, 3, 2)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(6, momentum=0.3), (5, 6, 3, 2, 2)),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), (5, 6, 3)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(6, affine=True), (5, 6, 3)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(6), (5, 6, 3, 2)),
    "LayerNorm": (lambda: nn.LayerNorm((6, 3)), (5, 6, 3)),
    "LayerNorm, no bias": (lambda: nn.LayerNorm(6, bias=False), (5, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_equals_torchs_layer_in_training_and_evaluation(name: str) -> None:
    make, shape = LAYERS[name]
    torchs = nn.Sequential(make()).double()
    for value in torchs.parameters():
        nn.init.normal_(value)
    own = with_own_norms(copy.deepcopy(torchs))
    assert type(own[0]) is not type(torchs[0])
    for _ in range(3):
        x = 2 * torch.randn(shape, dtype=torch.float64) + 1
        with observing(own):
            torch.testing.assert_close(own(x), torchs(x))
    torch.testing.assert_close(dict(own.state_dict()), dict(torchs.state_dict()))
    own.eval(), torchs.eval()
    torch.testing.assert_close(own(x), torchs(x))


@pytest.mark.parametrize("name", LAYERS)
def test_A2_second_derivatives_under_vmap_are_those_of_a_loop(name: str) -> None:
    make, shape = LAYERS[name]
    net = with_own_norms(nn.Sequential(make())).double()
    x, scale = torch.randn(2, *shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)

    def second(one: torch.Tensor) -> torch.Tensor:
        inner = torch.func.grad(lambda at: (net(at) ** 3 * scale).sum())
        return torch.func.grad(lambda at: (inner(at) * scale).sum())(one)

    torch.testing.assert_close(torch.func.vmap(second)(x), torch.stack([second(one) for one in x]))


def test_A4_running_averages_move_while_observed_only() -> None:
    layer = with_own_norms(nn.BatchNorm1d(6))
    before = copy.deepcopy(layer.state_dict())
    layer(torch.randn(5, 6) + 3)
    torch.testing.assert_close(dict(layer.state_dict()), dict(before))
    with observing(layer):
        layer(torch.randn(5, 6) + 3)
    assert layer.num_batches_tracked == 1
    assert (layer.running_mean > 0).all()


def test_subclasses_and_tracking_instance_norms_stay_as_they_are() -> None:
    class Own(nn.LayerNorm):
        pass

    net = nn.Sequential(Own(6), nn.InstanceNorm1d(6, track_running_stats=True), nn.Linear(6, 6))
    kinds = [type(layer) for layer in net]
    assert [type(layer) for layer in with_own_norms(net)] == kinds
