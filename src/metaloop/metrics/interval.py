"""The only confidence-interval formula of the project, and the spread over seeds that is never mixed with it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with a symmetric confidence interval, ``mean - half_width`` to ``mean + half_width``.

    Attributes:
        mean: in the unit of the values (accuracy in [0, 1]).
        half_width: in the same unit; None where no spread can be estimated (one value, or a value that is not finite).
        n: how many values.
        level: the confidence level in (0, 1).
    """

    mean: float
    half_width: float | None
    n: int
    level: float = LEVEL


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """The mean of independent values, such as the scores of meta-test episodes, with Student's t interval.

    ``half_width = t(1 - (1 - level) / 2; n - 1) * s / sqrt(n)`` with the sample standard deviation s (divisor n - 1).
    One value has no interval. A value that is not finite (an adaptation that diverged) makes the mean not finite and
    leaves no interval: it is shown, not dropped.

    Args:
        values: (n,) at least one number; a sequence, an array or a CPU tensor.
        level: the confidence level in (0, 1).

    Raises:
        ValueError: no values, more than one axis, or a level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level={level}: a confidence level lies between 0 and 1")
    array = np.asarray(values if hasattr(values, "__len__") else list(values), dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"values of shape {array.shape}: an interval needs a list of at least one number")
    n = array.size
    if not np.isfinite(array).all():
        return Interval(float(np.sum(array)), None, n, level)  # inf stays inf; nan, or inf - inf, is nan
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, None, n, level)
    from scipy import special  # slow to import, and first needed when a run ends

    quantile = float(special.stdtrit(n - 1, 1.0 - (1.0 - level) / 2.0))
    return Interval(mean, quantile * float(array.std(ddof=1)) / math.sqrt(n), n, level)


@dataclass(frozen=True)
class Spread:
    """How much runs that differ only in their seed differ.

    Attributes:
        mean: the mean of the runs' means.
        sd: their sample standard deviation (divisor n - 1), not an interval; None for one seed.
        n: how many seeds.
    """

    mean: float
    sd: float | None
    n: int


def seed_spread(means: Iterable[float]) -> Spread:
    """Mean and standard deviation over seeds.

    Args:
        means: (seeds,) the mean score of each run, at least one.

    Raises:
        ValueError: no means.
    """
    array = np.asarray(list(means), dtype=np.float64)
    if not array.size:
        raise ValueError("no means: a spread over seeds needs at least one run")
    if not np.isfinite(array).all():
        return Spread(float(np.sum(array)), None, array.size)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None, array.size)
