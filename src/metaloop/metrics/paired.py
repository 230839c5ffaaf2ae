"""Paired comparison of two runs on the same episodes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaloop.errors import UserError
from metaloop.metrics.interval import LEVEL, Interval, Spread, mean_interval, stratified_interval


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


def with_seeds(difference: PairedDifference, first: Spread, second: Spread) -> PairedDifference:
    """Widen a difference by the spread over training seeds, so that it holds for other seeds too.

    The variances of the mean over episodes and of both means over seeds add up; the degrees of freedom are those of Welch and
    Satterthwaite. A method with one seed is given the spread of the other; without any spread nothing changes.

    Args:
        difference: difference of two methods, each averaged over its seeds.
        first: spread of the first method's seeds.
        second: spread of the second method's seeds.
    """
    interval = difference.interval
    known = [spread for spread in (first, second) if spread.sd is not None]
    if not known or interval.half_width is None:
        return difference
    episodes = interval.n - 1 if interval.freedom is None else interval.freedom
    parts = [((interval.half_width / _quantile(interval.level, episodes)) ** 2, episodes)]
    for spread in (first, second):
        given = spread if spread.sd is not None else known[0]
        parts.append(((given.sd or 0.0) ** 2 / spread.n, given.n - 1.0))
    total = math.fsum(variance for variance, _ in parts)
    if total == 0.0:
        return difference
    freedom = 1.0 / math.fsum((variance / total) ** 2 / each for variance, each in parts)
    half = _quantile(interval.level, freedom) * math.sqrt(total)
    return with_p_value(Interval(interval.mean, half, interval.n, interval.level, freedom))


def _quantile(level: float, freedom: float) -> float:
    """Student's t quantile for a two-sided interval."""
    from scipy import special  # slow to import, and only needed when a run ends

    return float(special.stdtrit(freedom, 1.0 - (1.0 - level) / 2.0))


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
    from scipy import special

    statistic = abs(interval.mean) * _quantile(interval.level, freedom) / interval.half_width
    return 0.0 if math.isinf(statistic) else 2.0 * float(special.stdtr(freedom, -statistic))
