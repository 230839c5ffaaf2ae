"""The contract of policies, which choose a learner for a data set by its meta-features, and what they say about themselves."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaloop.errors import UserError

Array = np.ndarray


@dataclass(frozen=True)
class Reasons:
    """What a fitted policy says about its choices.

    Attributes:
        importances: (features,) shares that add up to 1: how much each meta-feature matters; None if that is not known.
        tree: lines of a printed decision tree; empty for a policy that is none.
        choice: sentences about the choice for one data set, in words of meta-features.
    """

    importances: Array | None = None
    tree: tuple[str, ...] = ()
    choice: tuple[str, ...] = ()


class Policy(ABC):
    """A fitted policy."""

    @abstractmethod
    def values(self, x: Array) -> Array:
        """Predicted performance (n, learners) from meta-features (n, features), nan where unknown."""

    @abstractmethod
    def reasons(self, features: Sequence[str], learners: Sequence[str], x: Array | None = None) -> Reasons:
        """Explain the policy, and its choice for a data set with the meta-features ``x`` (features,)."""


class PolicyFitter(ABC):
    """Settings from which a policy is fitted."""

    @abstractmethod
    def fit(self, x: Array, y: Array, seed: int) -> Policy:
        """Fit a policy.

        Args:
            x: (n, features) meta-features of the data sets, nan where unknown.
            y: (n, learners) performances, higher is better.
            seed: of random draws.
        """


def greedy_portfolio(y: Array, share: float) -> list[int]:
    """Choose a few learners of which the best on each data set is nearly as good as the best of all.

    Starts with the single best and adds the learner that raises the mean of the best the most, until ``share`` of the gap
    between the single best and the best of all is closed. As a function of the set, that mean is submodular, so the greedy
    choice gains at least 1 - 1/e of what the best set of its size gains (Nemhauser et al. 1978).

    Args:
        y: (n, learners) performances, higher is better.
        share: from 0, the single best alone, to 1.

    Returns:
        Columns of the chosen learners, in the order in which they were chosen.
    """
    chosen = [int(y.mean(0).argmax())]
    best = y[:, chosen[0]]
    goal = best.mean() + share * (y.max(1).mean() - best.mean())
    while best.mean() < goal - 1e-12:
        gains = np.maximum(best[:, None], y).mean(0)
        chosen.append(int(gains.argmax()))
        best = np.maximum(best, y[:, chosen[-1]])
    return chosen


def of_portfolio(values: Array, columns: Sequence[int], y: Array) -> Array:
    """Predictions (n, learners) from those of a portfolio (n, columns); all others are below every known performance ``y``."""
    whole = np.full((len(values), y.shape[1]), y.min() - 1.0)
    whole[:, columns] = values
    return whole


def checked_share(key: str, share: float) -> float:
    """Check the share of the gap that a portfolio closes, from ``algorithm.policy.KEY``."""
    if not 0 <= share <= 1:
        raise UserError(f"algorithm.policy.{key}={share} must be a share in [0, 1]")
    return share


def filled(x: Array, reference: Array) -> tuple[Array, Array]:
    """Replace unknown values by one below all known values of their column, for trees.

    Args:
        x: (n, features), nan where unknown.
        reference: (m, features) of the training data sets.

    Returns:
        x without nan, and (features,) the numbers that stand for unknown values.
    """
    known = ~np.isnan(reference)
    low = np.where(known, reference, np.inf).min(0)
    high = np.where(known, reference, -np.inf).max(0)
    empty = ~known.any(0)
    low, high = np.where(empty, 0.0, low), np.where(empty, 0.0, high)
    unknown = low - (high - low) - 1.0
    return np.where(np.isnan(x), unknown, x), unknown
