"""Confidence intervals of proportions, such as the accuracy over queries: within 0 and 1, and never a mere point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaloop.metrics.interval import LEVEL


@dataclass(frozen=True)
class Proportion:
    """A share with an interval that need not be symmetric.

    Attributes:
        mean: the share, in [0, 1].
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of observations.
        level: confidence level in (0, 1).
    """

    mean: float
    low: float
    high: float
    n: int
    level: float = LEVEL


def wilson(share: float, observations: float, level: float = LEVEL) -> tuple[float, float]:
    """Compute Wilson's score interval (1927) of a share of independent observations.

    Args:
        share: the share, in [0, 1].
        observations: number of observations above 0; an effective number need not be whole.
        level: confidence level in (0, 1).
    """
    from scipy import special  # slow to import, and only needed when a run ends

    z2 = float(special.ndtri(1.0 - (1.0 - level) / 2.0)) ** 2
    center = share + z2 / (2.0 * observations)
    half = math.sqrt(z2 * (share * (1.0 - share) + z2 / (4.0 * observations)) / observations)
    scale = 1.0 + z2 / observations
    low = 0.0 if share == 0.0 else (center - half) / scale
    return max(0.0, low), 1.0 if share == 1.0 else min(1.0, (center + half) / scale)


def proportion(right: Sequence[bool], level: float = LEVEL) -> Proportion:
    """Share of right answers to independent queries, with Wilson's interval.

    Raises:
        ValueError: there is no query.
    """
    if not right:
        raise ValueError("no queries: a proportion needs at least one")
    share = sum(right) / len(right)
    return Proportion(share, *wilson(share, len(right), level), len(right), level)


def clustered_proportion(shares: Sequence[float], queries: int, level: float = LEVEL) -> Proportion:
    """Mean of the shares of several episodes, whose queries share one adaptation, with Wilson's interval.

    The interval is that of as many independent observations as have the variance that is seen between episodes (Korn and
    Graubard 1998), at most one a query. Where episodes do not differ, each counts as one observation.

    Args:
        shares: share of each episode.
        queries: number of queries of all episodes.
        level: confidence level in (0, 1).

    Raises:
        ValueError: there is no episode.
    """
    if not shares:
        raise ValueError("no episodes: a proportion needs at least one")
    mean, episodes = float(np.mean(shares)), len(shares)
    return Proportion(mean, *wilson(mean, _independent(shares, mean, queries, level), level), episodes, level)


def _independent(shares: Sequence[float], mean: float, queries: int, level: float) -> float:
    """Number of independent observations with the variance of the mean of ``shares``."""
    episodes = len(shares)
    if episodes == 1 or episodes == queries:
        return queries
    variance = float(np.var(shares, ddof=1)) / episodes
    if variance == 0.0:
        return episodes
    from scipy import special

    tail = 1.0 - (1.0 - level) / 2.0
    wider = float(special.stdtrit(episodes - 1, tail)) / float(special.ndtri(tail))  # the variance is estimated
    return min(float(queries), mean * (1.0 - mean) / (variance * wider**2))
