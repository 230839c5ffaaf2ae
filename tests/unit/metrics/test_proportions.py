"""Intervals of proportions, against statsmodels and by their coverage."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from metaloop.metrics.proportions import clustered_proportion, proportion, wilson


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 7), (6, 6), (3, 8), (1, 400), (399, 400)])
def test_F6_wilson_is_that_of_statsmodels(right: int, count: int, level: float) -> None:
    expected = proportion_confint(right, count, 1 - level, "wilson")
    assert wilson(right / count, count, level) == pytest.approx(expected, abs=1e-12)
    answer = proportion([True] * right + [False] * (count - right), level)
    assert (answer.mean, answer.n, answer.low, answer.high) == pytest.approx((right / count, count, *expected), abs=1e-12)


def test_F6_six_right_answers_are_no_certainty() -> None:
    answer = proportion([True] * 6)
    assert answer.low == pytest.approx(0.6097, abs=1e-4)
    assert answer.high == 1.0
    with pytest.raises(ValueError, match="at least one"):
        proportion([])


def test_F6_intervals_of_episodes_stay_within_0_and_1() -> None:
    generator = np.random.default_rng(0)
    for episodes in range(1, 12):
        for _ in range(20):
            shares = generator.integers(0, 4, episodes) / 3
            answer = clustered_proportion(shares.tolist(), 3 * episodes)
            assert 0 <= answer.low < answer.high <= 1
            assert answer.low <= answer.mean <= answer.high


def test_F6_one_query_an_episode_is_one_observation_each() -> None:
    assert clustered_proportion([1.0, 0.0, 1.0, 1.0], 4).low == proportion([True, False, True, True]).low
    assert clustered_proportion([1.0, 1.0], 30).low == wilson(1.0, 2)[0]  # episodes that do not differ count once each
    with pytest.raises(ValueError, match="at least one"):
        clustered_proportion([], 0)


def test_F6_intervals_of_episodes_cover_the_truth() -> None:
    """Accuracies of episodes are drawn around 0.9, and 15 queries from each."""
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        truth = generator.beta(9.0, 1.0, 20)
        shares = generator.binomial(15, truth) / 15
        answer = clustered_proportion(shares.tolist(), 300)
        covered += answer.low <= 0.9 <= answer.high
    assert 0.92 < covered / 600 < 0.99
