"""Bar distributions against numerical integration, finite differences and the support's own quantiles."""

import pytest
import torch
from torch import Tensor

from metaloop.learners.context.bar_distribution import BarDistribution

COUNT = 6


@pytest.fixture
def bars() -> BarDistribution:
    targets = torch.randn(48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return BarDistribution.of(targets, torch.ones(48, dtype=torch.bool), COUNT)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(1, COUNT, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_bars_hold_equally_many_targets_and_padding_none() -> None:
    targets = torch.randn(48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real = torch.arange(48) < 36
    made = BarDistribution.of(targets, real, COUNT)
    assert made.places(targets[real]).sum(0).tolist() == [6.0] * COUNT
    alone = BarDistribution.of(targets[real], real[real], COUNT)
    for name in ("inner", "lowest", "widths", "centers"):
        torch.testing.assert_close(getattr(made, name), getattr(alone, name))
    for place in range(COUNT):
        inside = made.places(targets)[:, place].bool() & real
        assert made.centers[place] == pytest.approx(targets[inside].mean().item())


def test_the_density_has_area_one_and_its_quantiles_are_those_of_the_integral(bars: BarDistribution, logits: Tensor) -> None:
    grid = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    density = torch.exp(-bars.negative_log_density(logits.expand(len(grid), -1), grid))
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-4)
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    quantiles = bars.quantiles(logits, levels)[0]
    ends = torch.cat([bars.lowest[None], bars.inner, bars.inner[-1:] + bars.widths[-1:]])
    height = torch.softmax(logits[0], 0) / bars.widths
    for level, quantile in zip(levels, quantiles, strict=True):
        parts = (torch.minimum(ends[1:], quantile) - ends[:-1]).clamp(min=0)
        assert (height * parts).sum().item() == pytest.approx(level.item())


def test_a_target_beyond_the_bars_has_a_finite_loss(bars: BarDistribution, logits: Tensor) -> None:
    loss = bars.negative_log_density(logits, torch.tensor([9.0], dtype=torch.float64))
    assert 5 < loss.item() < 30


def test_the_gradient_is_that_of_finite_differences(bars: BarDistribution, logits: Tensor) -> None:
    targets = torch.tensor([0.3], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda at: bars.negative_log_density(at, targets), logits.clone().requires_grad_())
    assert torch.autograd.gradcheck(bars.moments, logits.clone().requires_grad_())


def test_a_sure_answer_has_the_mean_of_its_bar(bars: BarDistribution) -> None:
    sure = torch.full((1, COUNT), -40.0, dtype=torch.float64)
    sure[0, 2] = 40.0
    mean, deviation = bars.moments(sure)[0]
    assert mean == pytest.approx(bars.centers[2].item())
    assert deviation == pytest.approx(bars.widths[2].item() / 12**0.5)


def test_equal_targets_have_bars_with_a_width() -> None:
    made = BarDistribution.of(torch.zeros(10), torch.ones(10, dtype=torch.bool), 4)
    loss = made.negative_log_density(torch.zeros(1, 4), torch.zeros(1))
    assert torch.isfinite(loss).all()
    assert torch.isfinite(made.moments(torch.zeros(1, 4))).all()


def test_vmap_gives_the_same() -> None:
    targets = torch.randn(3, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    real = torch.rand(3, 20, generator=torch.Generator().manual_seed(3)) < 0.8
    logits = torch.randn(3, 5, COUNT, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    together = torch.func.vmap(lambda y, r, z: BarDistribution.of(y, r, COUNT).moments(z))(targets, real, logits)
    for task in range(3):
        torch.testing.assert_close(together[task], BarDistribution.of(targets[task], real[task], COUNT).moments(logits[task]))
