"""Norm layers against torch's, under vmap, and by mode."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from metaloop.errors import UserError
from metaloop.models.norm import MODES, LayerNorm, Norm, norm_mode, observing, with_own_layer_norms

NATIVE = {
    "batch": lambda: nn.BatchNorm2d(16, track_running_stats=False),
    "running": lambda: nn.BatchNorm2d(16),
    "group": lambda: nn.GroupNorm(8, 16),
    "layer": lambda: nn.GroupNorm(1, 16),
}


def made_norm(mode: str) -> Norm:
    norm = Norm(16, mode).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def images(*lead: int) -> Tensor:
    return 2 * torch.randn(*lead, 5, 16, 3, 4, dtype=torch.float64) + 1


def native_like(norm: Norm) -> nn.Module:
    native = NATIVE[norm.mode]().double()
    native.load_state_dict(norm.state_dict(), strict=False)
    return native


@pytest.mark.parametrize("mode", NATIVE)
def test_it_equals_torchs_layer_in_training_and_evaluation(mode: str) -> None:
    norm = made_norm(mode)
    native = native_like(norm)
    for _ in range(3):
        x = images()
        with observing(norm):
            torch.testing.assert_close(norm(x), native(x))
    norm.eval(), native.eval()
    x = images()
    torch.testing.assert_close(norm(x), native(x))


def test_support_mode_is_batch_mode_where_no_weights_are_given() -> None:
    norm, x = made_norm("support"), images()
    batch = Norm(16, "batch").double()
    batch.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), batch(x))


@pytest.mark.parametrize("mode", ["batch", "support", "running"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float64, torch.int64])
def test_weights_count_examples_in_the_statistics(mode: str, dtype: torch.dtype) -> None:
    norm, x = made_norm(mode), images()
    weight = torch.tensor([1, 1, 0, 1, 0]).to(dtype)
    real = weight > 0
    found = norm(x, weight)
    torch.testing.assert_close(found[real], norm(x[real]), rtol=1e-12, atol=1e-12)
    noisy = torch.where(real[:, None, None, None], x, 100 * torch.randn_like(x))
    assert torch.equal(norm(noisy, weight)[real], found[real])
    mean = x[real].mean((0, 2, 3), keepdim=True)
    var = x[real].var((0, 2, 3), correction=0, keepdim=True)
    expected = (x - mean) / (var + norm.eps).sqrt() * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", ["group", "layer"])
def test_weights_do_not_matter_where_examples_share_nothing(mode: str) -> None:
    norm, x = made_norm(mode), images()
    assert torch.equal(norm(x, torch.zeros(5)), norm(x))


def test_nothing_but_padding_gives_finite_numbers() -> None:
    assert made_norm("batch")(images(), torch.zeros(5, dtype=torch.bool)).isfinite().all()


def test_averages_move_while_observing_in_training_only() -> None:
    norm, x = made_norm("running"), images()
    before = copy.deepcopy(norm.state_dict())
    norm(x)
    with observing(norm.eval()):
        norm(x)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    weight = torch.tensor([True, False, True, True, False])
    with observing(norm.train()):
        norm(x, weight)
    norm(x)
    torch.testing.assert_close(norm.running_mean, 0.1 * x[weight].mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x[weight].var((0, 2, 3)))


def test_none_is_the_identity_without_parameters() -> None:
    norm, x = Norm(16, "none"), images()
    assert norm(x) is x
    assert not list(norm.parameters())


@pytest.mark.parametrize(
    ("channels", "mode", "message"),
    [(16, "instance", "one of batch"), (12, "group", "8 groups do not divide 12"), (8, "group", "more than 8")],
)
def test_wrong_modes_are_refused(channels: int, mode: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Norm(channels, mode)


def second_order_error(net: nn.Module) -> float:
    """The relative error of a one-step meta-gradient under vmap, against plain autograd."""
    torch.manual_seed(0)
    x, y = torch.randn(3, 6, 4, dtype=torch.float64), torch.randint(0, 2, (3, 6))
    params = {n: p.detach() for n, p in net.named_parameters()}

    def loss(at: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, at, (x,)), y)

    def adapted(at: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        gradient = torch.func.grad(loss)(at, x, y)
        return loss({n: v - 0.5 * gradient[n] for n, v in at.items()}, x.flip(0), y.flip(0))

    vmapped = torch.func.grad(lambda at: torch.func.vmap(lambda a, b: adapted(at, a, b))(x, y).sum())(params)
    leaves = {n: p.clone().requires_grad_() for n, p in params.items()}
    total = torch.zeros((), dtype=torch.float64)
    for i in range(3):
        inner = torch.autograd.grad(loss(leaves, x[i], y[i]), list(leaves.values()), create_graph=True)
        moved = {n: v - 0.5 * g for (n, v), g in zip(leaves.items(), inner, strict=True)}
        total = total + loss(moved, x[i].flip(0), y[i].flip(0))
    total.backward()
    error = sum(((vmapped[n] - leaves[n].grad) ** 2).sum() for n in params)
    return float((error / sum((leaves[n].grad ** 2).sum() for n in params)).sqrt())


def network(norm: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), norm, nn.Tanh(), nn.Linear(16, 2)).double()


@pytest.mark.parametrize("mode", MODES)
def test_second_order_under_vmap_is_right(mode: str) -> None:
    assert second_order_error(network(made_norm(mode))) < 1e-12


@pytest.mark.parametrize(
    "native", [lambda: nn.BatchNorm1d(16, track_running_stats=False), lambda: nn.LayerNorm(16)], ids=["batch", "layer"]
)
def test_the_check_above_notices_torchs_own_layers(native: type[nn.Module]) -> None:
    """Should this fail with a newer torch, its layers have become right and ours may go."""
    assert second_order_error(network(native())) > 1e-3


@pytest.mark.parametrize("bias", [True, False])
def test_own_layer_norms_take_the_place_of_torchs(bias: bool) -> None:
    net = network(nn.LayerNorm(16, bias=bias))
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x, names = torch.randn(6, 4, dtype=torch.float64), list(net.state_dict())
    expected = net(x)
    assert with_own_layer_norms(net) is net
    assert type(net[1]) is LayerNorm
    torch.testing.assert_close(net(x), expected)
    assert list(net.state_dict()) == names
    assert second_order_error(net) < 1e-12


def test_the_mode_of_a_model_is_that_of_its_layers() -> None:
    assert norm_mode(nn.Linear(2, 2)) == "none"
    assert norm_mode(nn.Sequential(Norm(16, "none"), Norm(16, "support"))) == "support"
    assert norm_mode(nn.Sequential(Norm(16, "group"), nn.BatchNorm1d(16))) == "group+running"
    assert norm_mode(nn.BatchNorm2d(16, track_running_stats=False)) == "batch"
    assert norm_mode(nn.LayerNorm(4)) == norm_mode(LayerNorm(4)) == "layer"
    assert norm_mode(nn.GroupNorm(2, 4)) == "group"
