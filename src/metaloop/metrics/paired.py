"""Paired comparison of two runs on the same episodes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaloop.errors import UserError
from metaloop.metrics.interval import LEVEL, Interval, mean_interval, stratified_interval


@dataclass(frozen=True)
class PairedDifference:
    """The mean of ``first - second`` over episodes.

    Attributes:
        interval: mean difference with its confidence interval, in the unit of the scores.
        p_value: p-value of the two-sided paired t test of a zero mean difference; None if there is no interval.
    """

    interval: Interval
    p_value: float | None


def paired_difference(first: Mapping[int, float], second: Mapping[int, float], level: float = LEVEL) -> PairedDifference:
    """Compare two runs episode by episode, which removes the difficulty of the episodes from the comparison.

    Args:
        first: scores of the first run by episode number.
        second: scores of the second run, with the same episode numbers.
        level: confidence level in (0, 1).

    Raises:
        UserError: the runs were not evaluated on the same episodes.
    """
    unpaired = first.keys() ^ second.keys()
    if unpaired or not first:
        raise UserError(
            f"a paired comparison needs the same episodes: {len(first)} and {len(second)} episodes, of which "
            f"{len(unpaired)} are in one run only (such as number {min(unpaired, default='none')}); "
            "evaluate both runs with the same test episodes"
        )
    return with_p_value(mean_interval([first[index] - second[index] for index in sorted(first)], level))


def stratified_difference(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], level: float = LEVEL
) -> PairedDifference:
    """Compare two methods episode by episode on several data sets, giving every data set the same weight.

    Args:
        first: scores of the first method on each data set, by ascending episode number.
        second: scores of the second method on the same data sets and episodes.
        level: confidence level in (0, 1).

    Raises:
        ValueError: the numbers of data sets or episodes differ.
    """
    strata = [[float(a) - float(b) for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]
    return with_p_value(stratified_interval(strata, level))


def with_p_value(interval: Interval) -> PairedDifference:
    """Add to the interval of a mean difference the p-value of the matching t test."""
    return PairedDifference(interval, _p_value(interval))


def _p_value(interval: Interval) -> float | None:
    """Two-sided p-value of a zero mean. The half-width of the interval is the t quantile times the standard error."""
    if interval.half_width is None:
        return None
    if interval.half_width == 0.0:
        return 1.0 if interval.mean == 0.0 else 0.0
    freedom = interval.n - 1 if interval.freedom is None else interval.freedom
    from scipy import special  # slow to import, and only needed when a run ends

    quantile = float(special.stdtrit(freedom, 1.0 - (1.0 - interval.level) / 2.0))
    statistic = abs(interval.mean) * quantile / interval.half_width
    return 0.0 if math.isinf(statistic) else 2.0 * float(special.stdtr(freedom, -statistic))
