"""Formatting of quantities other than scores (a score is formatted by its :class:`Metric`)."""

from collections.abc import Sequence

from metaloop.metrics.interval import Interval
from metaloop.problems.metric import MISSING, Metric
from metaloop.records.schema import Size, Statistic

NONE = MISSING


def difference(gap: Interval | None, metric: Metric) -> str:
    """Format a signed difference of two scores with its interval: ``+1.25 ± 0.40``."""
    if gap is None:
        return NONE
    text = metric.difference(gap.mean)
    return text if gap.half_width is None else f"{text} ± {metric.number(gap.half_width)}"


def statistic(value: Statistic) -> str:
    """Format a further score with its interval and unit: ``97.31 ± 0.42 %``."""
    return value.metric.with_unit(value.metric.interval(value.mean, value.half_width))


def p_value(value: float | None) -> str:
    """Format a p-value with four digits, or as ``< 0.0001``."""
    if value is None:
        return NONE
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def percent(share: float) -> str:
    """Format a fraction, such as a confidence level, as a percentage: ``95 %``."""
    return f"{100 * share:g} %"


def either(counts: Sequence[int]) -> str:
    """Format ascending counts as their range: ``600``, or ``100 to 600`` if they differ."""
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def span(value: Size, dash: str = "–") -> str:
    """Format a size: ``5``, or ``5–20`` for a range that each episode draws from."""
    return f"{value[0]}{dash}{value[1]}" if isinstance(value, tuple) else str(value)


def memory(count: float | None) -> str:
    """Format bytes as MiB or GiB."""
    if count is None:
        return NONE
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def rate(value: float | None) -> str:
    """Format tasks per second with three digits."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Format seconds as hours, minutes and seconds."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
