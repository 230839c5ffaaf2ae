"""The paired comparison against scipy's paired t test."""

import numpy as np
import pytest
from scipy import stats

from metaloop.errors import UserError
from metaloop.metrics.paired import paired_difference, stratified_difference


def _runs(n: int, gap: float) -> tuple[dict[int, float], dict[int, float]]:
    draw = np.random.default_rng(n)
    easy = draw.normal(0.8, 0.1, n)  # what both runs share: the difficulty of the episodes
    first, second = (easy + shift + draw.normal(0, 0.01, n) for shift in (gap, 0.0))
    return dict(enumerate(first.tolist())), dict(enumerate(second.tolist()))


@pytest.mark.parametrize("n", [2, 10, 600])
@pytest.mark.parametrize("gap", [0.0, 0.02])
def test_equals_scipys_paired_test(n: int, gap: float) -> None:
    first, second = _runs(n, gap)
    oracle = stats.ttest_rel(list(first.values()), list(second.values()))
    low, high = oracle.confidence_interval(0.95)
    difference = paired_difference(first, dict(reversed(second.items())))  # matched by number, not by position
    assert difference.p_value == pytest.approx(oracle.pvalue, rel=1e-9)
    assert difference.interval.mean - difference.interval.half_width == pytest.approx(low, rel=1e-9)
    assert difference.interval.mean + difference.interval.half_width == pytest.approx(high, rel=1e-9)


def test_pairing_sees_what_two_separate_intervals_hide() -> None:
    first, second = _runs(100, 0.01)
    unpaired = stats.ttest_ind(list(first.values()), list(second.values())).pvalue
    assert unpaired > 0.2
    assert paired_difference(first, second).p_value < 1e-6


def test_equal_and_constantly_different_runs() -> None:
    first = {0: 0.5, 1: 0.75}
    same = paired_difference(first, first)
    assert (same.interval.mean, same.interval.half_width, same.p_value) == (0.0, 0.0, 1.0)
    assert paired_difference(first, {0: 0.25, 1: 0.5}).p_value == 0.0


def test_one_episode_has_a_difference_and_no_test() -> None:
    one = paired_difference({3: 0.5}, {3: 0.25})
    assert (one.interval.mean, one.interval.half_width, one.p_value) == (0.25, None, None)


def test_other_episodes_are_refused_with_their_number() -> None:
    with pytest.raises(UserError, match=r"3 and 2 episodes, of which 3 are in one run only \(such as number 1\)"):
        paired_difference({0: 1.0, 1: 1.0, 2: 0.0}, {0: 1.0, 7: 0.0})
    with pytest.raises(UserError, match="same episodes"):
        paired_difference({}, {})


def test_over_two_data_sets_the_test_is_welchs() -> None:
    draw = np.random.default_rng(5)
    first, second = ([draw.normal(0.5, 0.2, 8).tolist(), draw.normal(0.7, 0.1, 20).tolist()] for _ in range(2))
    gaps = [np.subtract(one, other) for one, other in zip(first, second, strict=True)]
    found = stratified_difference(first, second)
    assert found.interval.mean == pytest.approx((gaps[0].mean() + gaps[1].mean()) / 2)
    assert found.p_value == pytest.approx(stats.ttest_ind(gaps[0], -gaps[1], equal_var=False).pvalue, rel=1e-9)


def test_where_both_diverged_there_is_no_difference() -> None:
    found = stratified_difference([[1.0, np.inf]], [[0.5, np.inf]])
    assert np.isnan(found.interval.mean)
    assert found.p_value is None


def test_other_numbers_of_episodes_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        stratified_difference([[1.0, 2.0]], [[1.0]])
