"""Corrected p-values against statsmodels, ranks against scipy and Demšar's table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from metaloop.metrics.multiple_comparisons import _cliques, holm, pairs_of, rank_methods

probabilities = st.floats(0, 1, allow_subnormal=False)


@given(st.lists(probabilities, min_size=1, max_size=30))
def test_holm_equals_statsmodels(values: list[float]) -> None:
    np.testing.assert_allclose(holm(values), multipletests(values, method="holm")[1], rtol=1e-12)


def test_holm_of_nothing_and_of_no_probability() -> None:
    assert holm([]) == []
    with pytest.raises(ValueError, match="lie in"):
        holm([0.1, 1.2])
    with pytest.raises(ValueError, match="lie in"):
        holm([float("nan")])


@given(st.integers(3, 6), st.integers(2, 12), st.integers(0, 2**31), st.booleans())
def test_ranks_and_friedman_equal_scipys(methods: int, sets: int, seed: int, ties: bool) -> None:
    table = np.random.default_rng(seed).normal(size=(sets, methods))
    table = np.round(table) if ties else table
    found = rank_methods(table.tolist(), higher_is_better=True)
    np.testing.assert_allclose(found.ranks, stats.rankdata(-table, axis=1).mean(0))
    if np.ptp(stats.rankdata(table, axis=1)) > 0:
        assert found.p_value == pytest.approx(stats.friedmanchisquare(*table.T).pvalue, rel=1e-9, abs=1e-12)
    else:
        assert found.p_value is None


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_the_critical_difference_is_demsars(methods: int, quantile: float) -> None:
    """Demšar 2006, table 5a: the critical values of the two-tailed Nemenyi test at 0.05."""
    found = rank_methods(np.random.default_rng(0).normal(size=(14, methods)).tolist(), higher_is_better=False)
    assert found.critical_difference == pytest.approx(quantile * (methods * (methods + 1) / (6 * 14)) ** 0.5, rel=3e-4)


def test_the_best_has_rank_one_and_cliques_hold_what_is_close() -> None:
    scores = [[0.9, 0.8, 0.2, 0.1]] * 40
    assert rank_methods(scores, higher_is_better=True).ranks == (1, 2, 3, 4)
    assert rank_methods(scores, higher_is_better=False).ranks == (4, 3, 2, 1)
    assert rank_methods(scores, higher_is_better=True).cliques == ()
    few = rank_methods(scores[:5], higher_is_better=True)  # critical difference 2.098
    assert few.cliques == ((0, 1, 2), (1, 2, 3))


@given(st.integers(2, 7), st.integers(2, 20), st.integers(0, 2**31))
def test_cliques_are_the_largest_groups_within_the_critical_difference(methods: int, sets: int, seed: int) -> None:
    found = rank_methods(np.random.default_rng(seed).normal(size=(sets, methods)).tolist(), higher_is_better=True)
    ranks, close = np.array(found.ranks), found.critical_difference
    pairs = {(a, b) for clique in found.cliques for a in clique for b in clique if a != b}
    alike = {(a, b) for a in range(methods) for b in range(methods) if a != b and abs(ranks[a] - ranks[b]) < close}
    assert pairs == alike
    sets_of = [set(clique) for clique in found.cliques]
    assert not any(one < other for one in sets_of for other in sets_of)


@pytest.mark.parametrize("scores", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, float("nan")], [1.0, 2.0]]])
def test_too_little_to_rank_is_refused(scores: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two data sets"):
        rank_methods(scores, higher_is_better=True)


def test_ranks_that_differ_by_the_critical_difference_are_told_apart() -> None:
    mean = np.array([1.0, 1.5, 3.0])
    assert _cliques(mean, 1.5) == ((0, 1),)
    assert _cliques(mean, 1.75) == ((0, 1), (1, 2))


def test_C11_the_best_of_equal_methods_is_rarely_called_better() -> None:
    """It is picked by its score, so the family has all pairs; the pairs with the best alone give about 22 % of false marks."""
    random, methods, tables = np.random.default_rng(0), 20, 400
    marked = {"all pairs": 0, "with the best": 0}
    for _ in range(tables):
        scores = random.normal(size=(100, methods))
        best = scores.mean(0).argmax()
        differences = np.delete(scores[:, [best]] - scores, best, axis=1)
        p_values = stats.ttest_1samp(differences, 0.0).pvalue.tolist()
        marked["all pairs"] += min(holm(p_values, pairs_of(methods))) < 0.05
        marked["with the best"] += min(holm(p_values)) < 0.05
    assert marked["all pairs"] / tables <= 0.05
    assert marked["with the best"] / tables > 0.15


@given(st.lists(probabilities, min_size=1, max_size=12), st.integers(0, 5))
def test_a_larger_family_is_holms_with_further_large_values(values: list[float], more: int) -> None:
    expected = multipletests([*values, *[1.0] * more], method="holm")[1][: len(values)]
    np.testing.assert_allclose(holm(values, len(values) + more), expected, rtol=1e-12)
