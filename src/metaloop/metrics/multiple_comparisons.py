"""Multiple comparisons: corrected p-values, and rank tests over several data sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def pairs_of(methods: int) -> int:
    """Number of pairs of so many methods: the family of tests where the best is picked from the data and then compared."""
    return methods * (methods - 1) // 2


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Adjust the p-values of a family of tests by Holm's method.

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection in the family below alpha.
    The i-th smallest of m values is multiplied by m - i + 1, made monotone and capped at 1. Source: Holm 1979.

    Args:
        p_values: (tests,) each in [0, 1], in any order.
        family: number of tests in the family, if it has more than are given. The others then count as those with the largest
            p-values, which can only make the result larger than Holm's over all of them. None for those given.

    Raises:
        ValueError: a value is outside [0, 1], or the family is smaller than the number of values.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must lie in [0, 1], got {list(p_values)}")
    size = len(values) if family is None else family
    if size < len(values):
        raise ValueError(f"a family of {size} tests cannot hold {len(values)} p-values")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * (size - np.arange(len(values)))))
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on several data sets.

    Attributes:
        ranks: mean rank of each method, 1 for the best; ties share their mean rank.
        p_value: p-value of Friedman's test that all methods perform alike; None if all methods tie on every data set.
        critical_difference: smallest difference of two mean ranks that Nemenyi's test calls significant.
        cliques: groups of at least two methods without a significant difference, as method numbers, best first. No clique
            lies inside another.
    """

    ranks: tuple[float, ...]
    p_value: float | None
    critical_difference: float
    cliques: tuple[tuple[int, ...], ...]


def rank_methods(scores: Sequence[Sequence[float]], higher_is_better: bool, level: float = 0.95) -> Ranking:
    """Rank methods over data sets by the tests of Friedman and Nemenyi (Demšar 2006, JMLR 7, section 3.2.2).

    Args:
        scores: (data sets, methods), at least two of each.
        higher_is_better: whether rank 1 goes to the highest score.
        level: 1 minus the chance of any false rejection.

    Raises:
        ValueError: there are fewer than two methods or data sets, or a score is not finite.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError(f"scores of shape {table.shape}: ranks need at least two data sets, two methods, and finite scores")
    from scipy import stats  # slow to import

    ranks = stats.rankdata(-table if higher_is_better else table, axis=1)
    sets, methods = table.shape
    mean = ranks.mean(0)
    quantile = float(stats.studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2.0)
    critical = quantile * math.sqrt(methods * (methods + 1) / (6.0 * sets))
    return Ranking(tuple(map(float, mean)), _friedman(ranks), critical, _cliques(mean, critical))


def _friedman(ranks: FloatArray) -> float | None:
    """p-value of Friedman's chi-square test, corrected for ties. It allows two methods; scipy's function needs three."""
    from scipy import special

    methods = ranks.shape[1]
    centered = ranks - (methods + 1) / 2
    spread = float((centered**2).sum())
    if spread == 0:
        return None
    statistic = (methods - 1) * float((centered.sum(0) ** 2).sum()) / spread
    return float(special.chdtrc(methods - 1, statistic))


def _cliques(mean: FloatArray, critical: float) -> tuple[tuple[int, ...], ...]:
    """Maximal runs of at least two methods whose mean ranks differ by less than ``critical``."""
    order = np.argsort(mean, kind="stable")
    cliques: list[tuple[int, ...]] = []
    reached = -1
    for start in range(len(order)):
        end = int(np.searchsorted(mean[order], mean[order[start]] + critical, side="left")) - 1
        if end > start and end > reached:
            cliques.append(tuple(int(number) for number in order[start : end + 1]))
        reached = max(reached, end)
    return tuple(cliques)
