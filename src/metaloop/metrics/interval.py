"""Confidence intervals of means, and the spread over seeds. Every interval of the project is computed here."""

import math
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with a symmetric confidence interval, ``mean - half_width`` to ``mean + half_width``.

    Attributes:
        mean: mean of the values, in their unit.
        half_width: half the width of the interval, in the same unit; None for a single value or if a value is not finite.
        n: number of values.
        level: confidence level in (0, 1).
        freedom: degrees of freedom of Student's t; None means n - 1.
    """

    mean: float
    half_width: float | None
    n: int
    level: float = LEVEL
    freedom: float | None = None


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Compute the mean of independent values, such as the scores of meta-test episodes, with Student's t interval.

    ``half_width = t(1 - (1 - level) / 2; n - 1) * s / sqrt(n)`` with the sample standard deviation s (divisor n - 1).
    One value has no interval. A value that is not finite (an adaptation that diverged) is kept: the mean is then not
    finite either, and there is no interval.

    Args:
        values: (n,) at least one number; a sequence, an array or a CPU tensor.
        level: confidence level in (0, 1).

    Raises:
        ValueError: no values, more than one axis, or a level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level}: a confidence level lies between 0 and 1")
    array = np.asarray(values if isinstance(values, Sized) else list(values), dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"values of shape {array.shape}: an interval needs a list of at least one number")
    n = array.size
    if not np.isfinite(array).all():
        return Interval(sum(array.tolist()), None, n, level)  # inf stays inf; nan and inf - inf give nan
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, None, n, level)
    from scipy import special  # slow to import, and only needed when a run ends

    quantile = float(special.stdtrit(n - 1, 1.0 - (1.0 - level) / 2.0))
    return Interval(mean, quantile * float(array.std(ddof=1)) / math.sqrt(n), n, level)


def stratified_interval(strata: Sequence[Sequence[float]], level: float = LEVEL) -> Interval:
    """Compute the mean of the means of several independent groups, such as the episodes of several data sets.

    Every group has the same weight. The variance is the mean of the groups' variances, divided by the number of groups.
    The degrees of freedom are those of Welch and Satterthwaite. For one group the result equals :func:`mean_interval`.

    Args:
        strata: the values of each group, at least one a group.
        level: confidence level in (0, 1).

    Raises:
        ValueError: there is no group, or as for :func:`mean_interval`.
    """
    parts = [mean_interval(values, level) for values in strata]
    if not parts:
        raise ValueError("no groups: an interval needs at least one")
    if len(parts) == 1:
        return parts[0]
    mean, n = sum(part.mean for part in parts) / len(parts), sum(part.n for part in parts)
    if any(part.half_width is None for part in parts):
        return Interval(mean, None, n, level)
    variances = [float(np.var(values, ddof=1)) / len(values) for values in strata]
    total = math.fsum(variances)
    if total == 0:
        return Interval(mean, 0.0, n, level)
    from scipy import special

    freedom = 1.0 / math.fsum((v / total) ** 2 / (part.n - 1) for v, part in zip(variances, parts, strict=True))
    quantile = float(special.stdtrit(freedom, 1.0 - (1.0 - level) / 2.0))
    return Interval(mean, quantile * math.sqrt(total) / len(parts), n, level, freedom)


@dataclass(frozen=True)
class Spread:
    """Variation between runs that differ only in their seed. It is not a confidence interval.

    Attributes:
        mean: mean of the runs' means.
        sd: sample standard deviation of the runs' means (divisor n - 1); None for one seed.
        n: number of seeds.
    """

    mean: float
    sd: float | None
    n: int


def seed_spread(means: Iterable[float]) -> Spread:
    """Compute the mean and the standard deviation over seeds.

    Args:
        means: (seeds,) mean score of each run, at least one.

    Raises:
        ValueError: no means.
    """
    array = np.asarray(list(means), dtype=np.float64)
    if not array.size:
        raise ValueError("no means: a spread over seeds needs at least one run")
    if not np.isfinite(array).all():
        return Spread(sum(array.tolist()), None, array.size)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None, array.size)
