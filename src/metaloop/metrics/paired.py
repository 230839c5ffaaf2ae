"""Comparing two runs on the same episodes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaloop.errors import UserError
from metaloop.metrics.interval import LEVEL, Interval, mean_interval, stratified_interval


@dataclass(frozen=True)
class PairedDifference:
    """The mean of ``first - second`` over episodes.

    Attributes:
        interval: the mean difference with its confidence interval, in the unit of the scores.
        p_value: of the two-sided paired t test that the mean difference is zero; None where there is no interval.
    """

    interval: Interval
    p_value: float | None


def paired_difference(first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL) -> PairedDifference:
    """Compare two runs episode by episode, which removes the difficulty of the episodes from the comparison.

    Args:
        first: score by episode number.
        second: the same for the other run; must hold the same episode numbers.
        level: the confidence level in (0, 1).

    Raises:
        UserError: the runs were not evaluated on the same episodes.
    """
    odd = first.keys() ^ second.keys()
    if odd or not first:
        raise UserError(
            f"a paired comparison needs the same episodes: {len(first)} and {len(second)} episodes, of which "
            f"{len(odd)} are in one run only (such as number {min(odd, default='none')}); "
            "evaluate both runs with the same test episodes"
        )
    return tested(mean_interval([first[index] - second[index] for index in sorted(first)], level))


def stratified_difference(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], level: float = LEVEL
) -> PairedDifference:
    """The same over the episodes of several data sets, each of which counts the same.

    Args:
        first: of each data set the scores, by ascending episode number.
        second: the same for the other; of the same episodes.
        level: the confidence level in (0, 1).

    Raises:
        ValueError: the scores are not of as many data sets and episodes.
    """
    strata = [[float(a) - float(b) for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]
    return tested(stratified_interval(strata, level))


def tested(interval: Interval) -> PairedDifference:
    """The interval of a mean difference with the p-value of the t test that goes with it."""
    return PairedDifference(interval, _p_value(interval))


def _p_value(interval: Interval) -> float | None:
    """Two-sided p-value of a zero mean, from the interval (whose half-width is t quantile times standard error)."""
    if interval.half_width is None:
        return None
    if interval.half_width == 0.0:
        return 1.0 if interval.mean == 0.0 else 0.0
    freedom = interval.n - 1 if interval.freedom is None else interval.freedom
    from scipy import special  # slow to import, and first needed when a run ends

    quantile = float(special.stdtrit(freedom, 1.0 - (1.0 - interval.level) / 2.0))
    statistic = abs(interval.mean) * quantile / interval.half_width
    return 0.0 if math.isinf(statistic) else 2.0 * float(special.stdtr(freedom, -statistic))
