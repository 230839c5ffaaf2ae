"""Many comparisons at once: corrected p-values, and ranks over several data sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests: below alpha with at most that chance of any false alarm in the family.

    Source: Holm 1979; the i-th smallest of m is multiplied by m - i + 1, then made monotone and cut at 1.

    Args:
        p_values: of the family, each in [0, 1]; in any order.

    Raises:
        ValueError: a value is no probability.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values lie in [0, 1], not {list(p_values)}")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on several data sets.

    Attributes:
        ranks: mean rank of each method, 1 the best; ties share their ranks.
        p_value: of Friedman's test that all methods are alike; None where every method ties on every data set.
        critical_difference: of two mean ranks by Nemenyi's test.
        cliques: of methods (their numbers, best first) no two of which differ by as much; each of at least two, none
            inside another.
    """

    ranks: tuple[float, ...]
    p_value: float | None
    critical_difference: float
    cliques: tuple[tuple[int, ...], ...]


def rank_methods(scores: Sequence[Sequence[float]], higher_is_better: bool, level: float = 0.95) -> Ranking:
    """Friedman's and Nemenyi's tests, as Demšar 2006 (JMLR 7, section 3.2.2) recommends for methods over data sets.

    Args:
        scores: (data sets, methods), at least two of each.
        higher_is_better: whether rank 1 goes to the highest score.
        level: 1 minus the chance of any false alarm.

    Raises:
        ValueError: there are fewer than two methods or data sets, or a score is not finite.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2 or not np.isfinite(table).all():
        raise ValueError(f"scores of shape {table.shape}: ranks need two data sets or more, two methods or more, finite scores")
    from scipy import stats  # slow to import

    ranks = stats.rankdata(-table if higher_is_better else table, axis=1)
    sets, methods = table.shape
    mean = ranks.mean(0)
    quantile = float(stats.studentized_range.ppf(level, methods, np.inf)) / math.sqrt(2.0)
    critical = quantile * math.sqrt(methods * (methods + 1) / (6.0 * sets))
    return Ranking(tuple(map(float, mean)), _friedman(ranks), critical, _cliques(mean, critical))


def _friedman(ranks: np.ndarray) -> float | None:
    """p-value of Friedman's chi-square, corrected for ties; for two methods too, where scipy's own asks for three."""
    from scipy import special

    methods = ranks.shape[1]
    centred = ranks - (methods + 1) / 2
    spread = float((centred**2).sum())
    if spread == 0:
        return None
    statistic = (methods - 1) * float((centred.sum(0) ** 2).sum()) / spread
    return float(special.chdtrc(methods - 1, statistic))


def _cliques(mean: np.ndarray, critical: float) -> tuple[tuple[int, ...], ...]:
    order = np.argsort(mean, kind="stable")
    found: list[tuple[int, ...]] = []
    reached = -1
    for start in range(len(order)):
        end = int(np.searchsorted(mean[order], mean[order[start]] + critical, side="left")) - 1
        if end > start and end > reached:
            found.append(tuple(int(number) for number in order[start : end + 1]))
        reached = max(reached, end)
    return tuple(found)
