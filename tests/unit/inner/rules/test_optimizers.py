"""Rules against torch's optimisers, and what is done to gradients before them."""

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.rules.optimizers import Adam, Momentum, RMSprop, SignDescent
from metaloop.inner.rules.rule import GradientDescent, InnerRule
from metaloop.inner.rules.scheduled import ScheduledDescent
from metaloop.inner.rules.shaping import GradientShaping
from metaloop.types import Params

TINY = 1e-30  # eps_root as good as torch's none
LOSS = torch.tensor(1.0)


def start() -> Params:
    random = torch.Generator().manual_seed(0)
    return {n: torch.randn(s, generator=random, dtype=torch.float64) for n, s in {"w": (4, 3), "b": (3,)}.items()}


def value(params: Params) -> Tensor:
    """Curved, and its gradient changes size and sign within ten steps."""
    return (params["w"].sin().sum(0) * params["b"]).sum() + (params["b"] ** 4).sum() + (params["w"] ** 2).sum()


def slopes(params: Params) -> Params:
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    return dict(zip(leaves, torch.autograd.grad(value(leaves), list(leaves.values())), strict=True))


def by_rule(rule: InnerRule, steps: int = 10) -> Params:
    params = start()
    state = rule.init(params)
    for step in range(steps):
        params, state = rule.step(slopes(params), state, params, step, LOSS)
    return params


def by_torch(
    make: Callable[[Iterable[Tensor]], torch.optim.Optimizer], max_norm: float | None = None, steps: int = 10
) -> Params:
    params = {name: value.requires_grad_() for name, value in start().items()}
    optimiser = make(params.values())
    for _ in range(steps):
        optimiser.zero_grad()
        value(params).backward()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params.values(), max_norm)
        optimiser.step()
    return {name: value.detach() for name, value in params.items()}


PAIRS = {
    "gradient descent": (lambda p: GradientDescent(p, lr=0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "gradient descent, decay": (
        lambda p: GradientDescent(p, lr=0.05, weight_decay=0.3),
        lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.3),
    ),
    "momentum": (lambda p: Momentum(p, lr=0.05, momentum=0.8), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8)),
    "momentum, dampened": (
        lambda p: Momentum(p, lr=0.05, momentum=0.8, dampening=0.6, weight_decay=0.3),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, dampening=0.6, weight_decay=0.3),
    ),
    "nesterov, decay": (
        lambda p: Momentum(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.3),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.3),
    ),
    "adam": (lambda p: Adam(p, lr=0.1, eps_root=TINY), lambda p: torch.optim.Adam(p, lr=0.1)),
    "adam, decay": (
        lambda p: Adam(p, lr=0.1, beta1=0.7, beta2=0.9, eps=1e-2, eps_root=TINY, weight_decay=0.3),
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.7, 0.9), eps=1e-2, weight_decay=0.3),
    ),
    "rmsprop": (lambda p: RMSprop(p, lr=0.1, eps_root=TINY), lambda p: torch.optim.RMSprop(p, lr=0.1)),
    "rmsprop, decay": (
        lambda p: RMSprop(p, lr=0.1, alpha=0.7, eps=1e-2, eps_root=TINY, weight_decay=0.3),
        lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.7, eps=1e-2, weight_decay=0.3),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_ten_steps_equal_torchs(pair: str) -> None:
    rule, optimiser = PAIRS[pair]
    ours, theirs = by_rule(rule(start())), by_torch(optimiser)
    for name, expected in theirs.items():
        assert (expected - start()[name]).abs().max() > 0.05
        torch.testing.assert_close(ours[name], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_norm", [0.5, 4.0])
def test_clipping_before_decay_equals_torchs(max_norm: float) -> None:
    ours = by_rule(Momentum(start(), lr=0.05, momentum=0.8, weight_decay=0.3, max_norm=max_norm))
    theirs = by_torch(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, weight_decay=0.3), max_norm)
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-5)  # torch adds 1e-6 to the norm


def test_clipping_leaves_short_gradients_and_cuts_long_ones_to_the_norm_of_all_tensors() -> None:
    shaped = GradientShaping(0.0, 5.0)
    short = {"a": torch.tensor([3.0]), "b": torch.tensor([[-4.0]])}
    assert all(torch.equal(after, short[name]) for name, after in shaped(short, short).items())
    cut = shaped({name: 3 * value for name, value in short.items()}, short)
    assert [value.item() for value in cut.values()] == pytest.approx([3.0, -4.0])
    assert GradientShaping(0.0, None)(short, short) is short


def test_clipping_has_derivatives_on_both_sides_and_at_zero() -> None:
    def clipped(gradient: Tensor) -> Tensor:
        return GradientShaping(0.0, 1.0)({"g": gradient}, {})["g"]

    for scale in (0.0, 0.3, 4.0):
        at = (scale * torch.tensor([0.6, -0.8], dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(clipped, at)
        assert torch.autograd.gradgradcheck(clipped, at)
    flat = torch.autograd.functional.jacobian(clipped, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(flat, torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("rule", [Adam, RMSprop])
def test_the_slope_at_zero_is_the_stated_one(rule: type[Adam] | type[RMSprop]) -> None:
    made = rule(start(), lr=1.0, eps=1e-3, eps_root=1e-6)
    params = {"p": torch.zeros(1, dtype=torch.float64)}

    def moved(gradient: Tensor) -> Tensor:
        return made.step({"p": gradient}, made.init(params), params, 0, LOSS)[0]["p"]

    slope = torch.autograd.functional.jacobian(moved, torch.zeros(1, dtype=torch.float64))
    assert slope.item() == pytest.approx(-1 / (1e-3 + 1e-3))


def test_the_default_root_hardly_moves_torchs_numbers() -> None:
    theirs = by_torch(lambda p: torch.optim.Adam(p, lr=0.1))
    for name, after in by_rule(Adam(start(), lr=0.1)).items():
        torch.testing.assert_close(after, theirs[name], rtol=1e-7, atol=1e-7)


def test_sign_descent_moves_every_number_alike() -> None:
    params = {"p": torch.tensor([1.0, 1.0, 1.0])}
    after, state = SignDescent(params, lr=0.25).step({"p": torch.tensor([1e-9, -7.0, 0.0])}, {}, params, 0, LOSS)
    assert after["p"].tolist() == [0.75, 1.25, 1.0]
    assert state == {}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Momentum(p, lr=0.0, momentum=0.5), r"rule\.lr=0\.0"),
        (lambda p: Momentum(p, lr=1.0, momentum=1.0), r"rule\.momentum=1\.0: at least 0 and below 1"),
        (lambda p: Adam(p, lr=-1.0), r"rule\.lr=-1\.0"),
        (lambda p: Adam(p, lr=1.0, beta1=1.0), r"rule\.beta1=1\.0"),
        (lambda p: Adam(p, lr=1.0, beta2=-0.1), r"rule\.beta2=-0\.1"),
        (lambda p: Adam(p, lr=1.0, eps=-1.0), r"rule\.eps=-1\.0"),
        (lambda p: Adam(p, lr=1.0, eps_root=0.0), r"rule\.eps_root=0\.0: above 0"),
        (lambda p: RMSprop(p, lr=1.0, alpha=1.5), r"rule\.alpha=1\.5"),
        (lambda p: RMSprop(p, lr=1.0, eps_root=0.0), r"rule\.eps_root=0\.0: above 0"),
        (lambda p: SignDescent(p, lr=0.0), r"rule\.lr=0\.0"),
        (lambda p: GradientDescent(p, lr=1.0, weight_decay=-1.0), r"rule\.weight_decay=-1\.0: at least 0"),
        (lambda p: GradientDescent(p, lr=1.0, max_norm=0.0), r"rule\.max_norm=0\.0: above 0, or null"),
        (lambda p: SignDescent({}, lr=1.0), r"algorithm\.adapted"),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Callable[[Params], InnerRule], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(start())


def test_a_rate_per_step_is_descent_at_that_rate_and_then_at_the_last() -> None:
    expected = start()
    for rate in (0.1, 0.02, 0.02):
        expected, _ = GradientDescent(expected, rate).step(slopes(expected), {}, expected, 0, LOSS)
    found = by_rule(ScheduledDescent(start(), [0.1, 0.02]), steps=3)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    for rates in ([], [0.1, 0.0]):
        with pytest.raises(UserError, match=r"algorithm\.rule\.rates"):
            ScheduledDescent(start(), rates)
