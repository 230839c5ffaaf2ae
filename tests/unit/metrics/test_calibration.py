"""What the statistics promise, on simulated experiments: coverage, false alarms, strata against Welch's test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metaloop.metrics.interval import mean_interval, stratified_interval
from metaloop.metrics.multiple_comparisons import holm
from metaloop.metrics.paired import paired_difference, stratified_difference

REPEATS = 2000


def _within(count: int, rate: float) -> bool:
    """Whether a count of ``REPEATS`` is one that the rate gives in 99.9 of 100 cases."""
    return stats.binomtest(count, REPEATS, rate).pvalue > 0.001


def _scores(draw: np.random.Generator, episodes: int) -> np.ndarray:
    """Accuracies of episodes with 25 queries and difficulties of their own, as few-shot episodes have them."""
    return draw.binomial(25, draw.beta(12, 3, episodes)) / 25


def test_intervals_cover_95_percent() -> None:
    draw = np.random.default_rng(0)
    covered = sum(
        abs(found.mean - 0.8) <= found.half_width for found in (mean_interval(_scores(draw, 100)) for _ in range(REPEATS))
    )
    assert _within(covered, 0.95)


def test_intervals_over_data_sets_cover_95_percent() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(REPEATS):
        found = stratified_interval([_scores(draw, 60), draw.normal(0.3, 0.4, 25)])
        covered += abs(found.mean - 0.55) <= found.half_width
    assert _within(covered, 0.95)


def test_a_null_comparison_is_significant_in_5_percent() -> None:
    """Two equally good runs on the same episodes: what they share of the difficulty does not matter."""
    draw = np.random.default_rng(2)
    alarms = 0
    for _ in range(REPEATS):
        difficulty = draw.beta(12, 3, 100)
        one, other = (dict(enumerate(draw.binomial(25, difficulty) / 25)) for _ in range(2))
        alarms += paired_difference(one, other).p_value < 0.05
    assert _within(alarms, 0.05)


def test_a_family_of_null_comparisons_has_an_alarm_in_at_most_5_percent() -> None:
    """Eight runs against a ninth, all equally good; without the correction more than a quarter of the families would
    have one.
    """
    draw = np.random.default_rng(3)
    corrected = plain = 0
    for _ in range(REPEATS):
        runs = draw.normal(0, 1, (9, 50)) + draw.normal(0, 2, 50)
        p_values = [stratified_difference([runs[0]], [run]).p_value for run in runs[1:]]
        corrected += min(holm(p_values)) < 0.05
        plain += min(p_values) < 0.05
    assert plain > 0.2 * REPEATS
    assert corrected <= 0.05 * REPEATS + 3 * (REPEATS * 0.05 * 0.95) ** 0.5


values = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=30).filter(lambda found: np.ptp(found) > 1e-3)


@given(values, values)
def test_two_strata_are_welchs_test(one: list[float], other: list[float]) -> None:
    found = stratified_interval([one, other])
    expected = stats.ttest_ind(one, [-value for value in other], equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(one) / 2 + np.mean(other) / 2, rel=1e-9, abs=1e-9)
    assert found.half_width == pytest.approx((high - low) / 4, rel=1e-9)
    zeros = [[0.0] * len(one), [0.0] * len(other)]
    assert stratified_difference([one, other], zeros).p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@given(values, st.integers(0, 2**31))
def test_one_stratum_is_the_paired_test(one: list[float], seed: int) -> None:
    other = np.random.default_rng(seed).normal(size=len(one))
    expected = stats.ttest_rel(one, other)
    found = stratified_difference([one], [other])
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.interval == mean_interval(np.subtract(one, other))


def test_strata_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ValueError):
        stratified_difference([[1.0, 2.0]], [[1.0, 2.0], [1.0]])
    with pytest.raises(ValueError, match="at least one"):
        stratified_interval([])
