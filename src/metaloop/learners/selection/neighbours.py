"""A policy that goes by the most similar data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaloop.errors import UserError
from metaloop.learners.selection.policy import Array, Policy, PolicyFitter, Reasons

_RANKED = 3  # neighbours that a reason lists


def ranks(x: Array, reference: Array) -> Array:
    """Meta-features (n, features) as quantiles of the reference's known values, in [0, 1]; 0.5 where unknown."""
    quantiles = np.full(x.shape, 0.5)
    for column in range(x.shape[1]):
        known = np.sort(reference[~np.isnan(reference[:, column]), column])
        if len(known):
            below, up_to = (np.searchsorted(known, x[:, column], side) for side in ("left", "right"))
            quantiles[:, column] = np.where(np.isnan(x[:, column]), 0.5, (below + up_to) / (2 * len(known)))
    return quantiles


@dataclass(frozen=True)
class Neighbours(Policy):
    """Mean performances over the most similar data sets.

    Attributes:
        reference: (n, features) meta-features of the training data sets.
        y: (n, learners) their performances.
        count: number of neighbours.
    """

    reference: Array
    y: Array
    count: int

    def nearest(self, x: Array) -> tuple[Array, Array]:
        """Numbers and distances (n, count) of the most similar training data sets."""
        rows, places = ranks(x, self.reference), ranks(self.reference, self.reference)
        distance = np.abs(rows[:, None] - places[None]).mean(-1)
        order = np.argsort(distance, 1, kind="stable")[:, : self.count]
        return order, np.take_along_axis(distance, order, 1)

    def values(self, x: Array) -> Array:
        """See :meth:`Policy.values`."""
        return np.asarray(self.y[self.nearest(x)[0]].mean(1))

    def reasons(self, features: Sequence[str], learners: Sequence[str], x: Array | None = None) -> Reasons:
        """See :meth:`Policy.reasons`."""
        if x is None:
            return Reasons()
        order, _ = self.nearest(x[None])
        chosen = int(self.values(x[None])[0].argmax())
        rows, places = ranks(x[None], self.reference)[0], ranks(self.reference[order[0]], self.reference)
        alike = np.argsort(np.abs(places - rows).mean(0) + np.where(np.isnan(x), 1.0, 0.0), kind="stable")[:_RANKED]
        named = ", ".join(f"{features[place]} ({x[place]:.4g})" for place in alike)
        best = (self.y[order[0]].argmax(1) == chosen).sum()
        return Reasons(
            choice=(
                f"of the {self.count} most similar data sets it is the best on average, and on {best} of them the best of all",
                f"they are most alike in {named}",
            )
        )


class NearestDatasets(PolicyFitter):
    """The learner that is best on average over the most similar data sets (Brazdil et al. 2003, ranked by mean performance).

    Meta-features are compared as quantiles among the training data sets, so that no unit matters, by the mean absolute
    difference; an unknown one counts as the median.

    Args:
        neighbours: number of similar data sets; if several, the one of the highest leave-one-out performance is taken.
    """

    def __init__(self, neighbours: Sequence[int]) -> None:
        if not neighbours or min(neighbours) < 1:
            raise UserError(f"algorithm.policy.neighbours={list(neighbours)} must be numbers of at least 1")
        self.neighbours = tuple(neighbours)

    def fit(self, x: Array, y: Array, seed: int) -> Neighbours:
        """See :meth:`PolicyFitter.fit`; nothing is random."""
        places = ranks(x, x)
        distance = np.abs(places[:, None] - places[None]).mean(-1)
        np.fill_diagonal(distance, np.inf)
        order = np.argsort(distance, 1, kind="stable")

        def left_out(count: int) -> float:
            chosen = y[order[:, : min(count, len(y) - 1)]].mean(1).argmax(1) if len(y) > 1 else np.zeros(1, int)
            return float(y[np.arange(len(y)), chosen].mean())

        count = max(self.neighbours, key=lambda each: (left_out(each), each))
        return Neighbours(x, y, min(count, len(y)))
