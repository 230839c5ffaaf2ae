"""The confidence interval against scipy, and its properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metaloop.metrics.interval import Interval, Spread, mean_interval, seed_spread, stratified_interval

scores = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=40)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 30, 600])
def test_equals_scipys_interval(n: int, level: float) -> None:
    values = np.random.default_rng(n).normal(0.9, 0.1, n)
    low, high = stats.t.interval(level, n - 1, loc=values.mean(), scale=stats.sem(values))
    interval = mean_interval(values, level)
    assert interval.mean - interval.half_width == pytest.approx(low, rel=1e-12)
    assert interval.mean + interval.half_width == pytest.approx(high, rel=1e-12)
    assert (interval.n, interval.level) == (n, level)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], (1.0, 2.0, 4.0), iter([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 4.0])])
def test_takes_any_list_of_numbers(values: object) -> None:
    assert mean_interval(values) == mean_interval(np.array([1.0, 2.0, 4.0]))  # type: ignore[arg-type]


def test_one_value_has_no_interval() -> None:
    assert mean_interval([0.7]) == Interval(0.7, None, 1, 0.95)


def test_values_that_are_not_finite_are_shown_and_not_dropped() -> None:
    diverged = mean_interval([1.0, math.inf, 2.0])
    assert (diverged.mean, diverged.half_width, diverged.n) == (math.inf, None, 3)
    assert math.isnan(mean_interval([1.0, math.nan]).mean)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], 1.0])
def test_rejects_what_is_not_a_list_of_numbers(values: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        mean_interval(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_rejects_a_level_that_is_no_probability(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], level)


@given(scores, st.floats(-100, 100), st.floats(0.01, 100))
def test_shift_moves_the_mean_and_scale_the_width(values: list[float], shift: float, scale: float) -> None:
    plain, moved = mean_interval(values), mean_interval([scale * value + shift for value in values])
    assert moved.mean == pytest.approx(scale * plain.mean + shift, rel=1e-6, abs=1e-6)
    assert moved.half_width == pytest.approx(scale * plain.half_width, rel=1e-6, abs=1e-6)


@given(scores, st.floats(0.05, 0.9))
def test_wider_for_more_confidence_and_blind_to_order(values: list[float], level: float) -> None:
    narrow, wide = mean_interval(values, level), mean_interval(values, level + 0.05)
    assert narrow.half_width <= wide.half_width
    turned = mean_interval(values[::-1], level)
    assert turned.mean == pytest.approx(narrow.mean, abs=1e-9)
    assert turned.half_width == pytest.approx(narrow.half_width, abs=1e-9)


def test_covers_the_true_mean_as_often_as_it_says() -> None:
    samples = np.random.default_rng(1).normal(3.0, 2.0, (4000, 5))
    intervals = [mean_interval(sample) for sample in samples]
    covered = np.mean([abs(interval.mean - 3.0) <= interval.half_width for interval in intervals])
    assert covered == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors; a normal quantile would cover 0.88


def test_spread_over_seeds_is_a_standard_deviation() -> None:
    assert seed_spread([0.5]) == Spread(0.5, None, 1)
    spread = seed_spread([0.95, 0.97, 0.99])
    assert spread.mean == pytest.approx(0.97)
    assert spread.sd == pytest.approx(np.std([0.95, 0.97, 0.99], ddof=1))
    assert spread.n == 3
    assert seed_spread([1.0, math.inf]).sd is None
    with pytest.raises(ValueError, match="at least one run"):
        seed_spread([])


def test_two_groups_are_welchs() -> None:
    """The mean of two groups' means is half of the difference of the one and the mirrored other, which scipy tests."""
    draw = np.random.default_rng(3)
    first, second = draw.normal(0.5, 0.3, 9), draw.normal(0.2, 0.1, 5)
    low, high = stats.ttest_ind(first, -second, equal_var=False).confidence_interval(0.9)
    found = stratified_interval([first.tolist(), second.tolist()], 0.9)
    assert found.mean == pytest.approx((first.mean() + second.mean()) / 2)
    assert found.half_width == pytest.approx((high - low) / 4, rel=1e-9)
    assert found.freedom == pytest.approx(stats.ttest_ind(first, -second, equal_var=False).df, rel=1e-9)
    assert (found.n, found.level) == (14, 0.9)


def test_groups_without_spread_and_of_one_value() -> None:
    assert stratified_interval([[0.5, 0.5], [0.25, 0.25, 0.25]]) == Interval(0.375, 0.0, 5)
    assert stratified_interval([[0.5, 0.75], [0.25]]).half_width is None
    assert stratified_interval([[0.5, 0.75]]) == mean_interval([0.5, 0.75])
    tiny = stratified_interval([[0.0, 1e-100], [0.0, 1e-100]])  # whose variances, squared, are no floats any more
    assert tiny.freedom == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no groups"):
        stratified_interval([])


def test_groups_that_diverged_both_ways_have_no_mean() -> None:
    """Differences of two runs, each of which diverged on another data set."""
    found = stratified_interval([[1.0, math.inf], [-math.inf, 1.0]])
    assert math.isnan(found.mean)
    assert found.half_width is None
    assert math.isnan(mean_interval([math.inf, -math.inf]).mean)
    assert stratified_interval([[1.0, math.inf], [1.0, 2.0]]).mean == math.inf
