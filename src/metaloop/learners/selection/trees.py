"""Policies that are trees and forests, fitted by scikit-learn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaloop.errors import UserError
from metaloop.learners.selection.policy import (
    Array,
    Policy,
    PolicyFitter,
    Reasons,
    checked_share,
    filled,
    greedy_portfolio,
    of_portfolio,
)
from metaloop.learners.selection.tree_words import Node, leaf_of, nodes, path_words, printed

_DEEPEST = 4  # levels of a tree that people read
_INNER_FOLDS = 10
_RANKED = 3  # predictions and features that a reason names


@dataclass(frozen=True)
class Tree(Policy):
    """A decision tree whose leaves name learners.

    Attributes:
        root: the tree.
        reference: (n, features) meta-features of the training data sets.
        y: (n, learners) their performances.
        shares: (features,) importances.
    """

    root: Node
    reference: Array
    y: Array
    shares: Array

    def values(self, x: Array) -> Array:
        """See :meth:`Policy.values`; the learner of the leaf has its mean there, the others are below all performances."""
        rows, _ = filled(x, self.reference)
        leaves = [leaf_of(self.root, row)[0] for row in rows]
        each = [of_portfolio(np.array([[leaf.performance]]), [leaf.learner], self.y) for leaf in leaves]
        return np.concatenate(each)

    def reasons(self, features: Sequence[str], learners: Sequence[str], x: Array | None = None) -> Reasons:
        """See :meth:`Policy.reasons`."""
        _, unknown = filled(self.reference[:1], self.reference)
        choice: tuple[str, ...] = ()
        if x is not None:
            row, _ = filled(x[None], self.reference)
            leaf, path = leaf_of(self.root, row[0])
            choice = tuple(path_words(path, leaf, row[0], features, unknown))
        return Reasons(self.shares, tuple(printed(self.root, features, learners, unknown)), choice)


class MetaTree(PolicyFitter):
    """A regression tree (CART, Breiman et al. 1984) of the performances of a portfolio, of at most four levels.

    A leaf names the learner that is best on average over its data sets. The portfolio is chosen by cross-validation within the
    training data sets: the one with the highest mean performance of the chosen learners, the smallest of equals.

    Args:
        depth: most levels, from 1 to 4.
        leaf: smallest share of the data sets in a leaf.
        portfolios: shares of the gap that the learners to choose from close (see
            :func:`metaloop.learners.selection.policy.greedy_portfolio`), of which one is chosen.
        repeats: how often the cross-validation is repeated, with other folds.
    """

    def __init__(self, depth: int, leaf: float, portfolios: Sequence[float], repeats: int) -> None:
        if not 1 <= depth <= _DEEPEST:
            raise UserError(f"algorithm.policy.depth={depth} must be from 1 to {_DEEPEST}; a deeper tree cannot be read")
        if not 0 < leaf <= 0.5:
            raise UserError(f"algorithm.policy.leaf={leaf} must be a share of the data sets in (0, 0.5]")
        if repeats < 1:
            raise UserError(f"algorithm.policy.repeats={repeats} must be at least 1")
        if not portfolios:
            raise UserError("algorithm.policy.portfolios is empty; give at least one share of the gap, such as [0.9]")
        self.depth, self.leaf, self.repeats = depth, leaf, repeats
        self.portfolios = tuple(sorted(checked_share("portfolios", each) for each in portfolios))

    def fit(self, x: Array, y: Array, seed: int) -> Tree:
        """See :meth:`PolicyFitter.fit`."""
        share = self.portfolios[0] if len(self.portfolios) == 1 else self._best_portfolio(x, y, seed)
        return self._fitted(x, y, share, seed)

    def _fitted(self, x: Array, y: Array, share: float, seed: int) -> Tree:
        from sklearn.tree import DecisionTreeRegressor

        columns = greedy_portfolio(y, share)
        rows, _ = filled(x, x)
        least = max(1, math.ceil(self.leaf * len(y)))
        made = DecisionTreeRegressor(max_depth=self.depth, min_samples_leaf=least, random_state=seed % 2**32)
        made.fit(rows, y[:, columns])
        return Tree(nodes(made.tree_, columns, y, rows), x, y, made.feature_importances_)

    def _best_portfolio(self, x: Array, y: Array, seed: int) -> float:
        random = np.random.default_rng(seed)
        scores = dict.fromkeys(self.portfolios, 0.0)
        for _ in range(self.repeats):
            for held_out in np.array_split(random.permutation(len(y)), min(_INNER_FOLDS, len(y))):
                kept = np.setdiff1d(np.arange(len(y)), held_out)
                for share in self.portfolios:
                    chosen = self._fitted(x[kept], y[kept], share, seed).values(x[held_out]).argmax(1)
                    scores[share] += float(y[held_out, chosen].sum())
        return max(scores, key=lambda share: (scores[share], -share))


@dataclass(frozen=True)
class Forest(Policy):
    """A random forest that predicts the performance of each learner of a portfolio.

    Attributes:
        made: the fitted forest.
        reference: (n, features) meta-features of the training data sets.
        y: (n, learners) their performances.
        columns: the portfolio.
    """

    made: Any
    reference: Array
    y: Array
    columns: tuple[int, ...]

    def values(self, x: Array) -> Array:
        """See :meth:`Policy.values`."""
        predicted = self.made.predict(filled(x, self.reference)[0]).reshape(len(x), len(self.columns))
        return of_portfolio(predicted, self.columns, self.y)

    def reasons(self, features: Sequence[str], learners: Sequence[str], x: Array | None = None) -> Reasons:
        """See :meth:`Policy.reasons`. A choice is explained by what the prediction would be with one feature unknown."""
        choice: tuple[str, ...] = ()
        if x is not None:
            choice = tuple(self._choice(features, learners, x))
        return Reasons(self.made.feature_importances_, (), choice)

    def _choice(self, features: Sequence[str], learners: Sequence[str], x: Array) -> list[str]:
        """Predictions of the best learners, and the features that speak most for the chosen one against the single best."""
        predicted = self.values(x[None])[0]
        chosen, single = int(predicted.argmax()), int(self.y.mean(0).argmax())
        ranked = sorted(self.columns, key=lambda place: -predicted[place])[:_RANKED]
        words = [", ".join(f"{learners[place]} {predicted[place]:.4f}" for place in ranked) + " are the highest predictions"]
        if chosen == single:
            return [*words, "it is also the single best over all known data sets"]
        # What the advantage would be with the values of each known data set in the place of one feature's, on average.
        known = [place for place in np.flatnonzero(~np.isnan(x)) if not np.isnan(self.reference[:, place]).all()]
        others = np.repeat(x[None], len(known), 0)
        for row, place in enumerate(known):
            others[row, place] = np.nanmedian(self.reference[:, place])
        if not known:
            return words
        changed = self.values(others)
        lost = (predicted[chosen] - predicted[single]) - (changed[:, chosen] - changed[:, single])
        for row in np.argsort(-lost)[:_RANKED]:
            if lost[row] > 0:
                place = known[row]
                words.append(
                    f"{features[place]} is {x[place]:.4g}; with the median of the known data sets, "
                    f"{others[row, place]:.4g}, its advantage over {learners[single]} would be {lost[row]:.4f} smaller"
                )
        return words


class MetaForest(PolicyFitter):
    """A random forest (Breiman 2001) that predicts the performances of a portfolio together.

    Targets are the performances themselves: trees split where all learners become better or worse, and a leaf's data sets are
    about equally hard.

    Args:
        trees: number of trees.
        leaf: smallest number of data sets in a leaf.
        features: share of the meta-features that each split is chosen from.
        portfolio: share of the gap that the learners to choose from close.
    """

    def __init__(self, trees: int, leaf: int, features: float, portfolio: float) -> None:
        for key, value in (("trees", trees), ("leaf", leaf)):
            if value < 1:
                raise UserError(f"algorithm.policy.{key}={value} must be at least 1")
        if not 0 < features <= 1:
            raise UserError(f"algorithm.policy.features={features} must be a share in (0, 1]")
        self.trees, self.leaf, self.features = trees, leaf, features
        self.portfolio = checked_share("portfolio", portfolio)

    def fit(self, x: Array, y: Array, seed: int) -> Forest:
        """See :meth:`PolicyFitter.fit`."""
        from sklearn.ensemble import RandomForestRegressor

        columns = greedy_portfolio(y, self.portfolio)
        made = RandomForestRegressor(
            self.trees, min_samples_leaf=self.leaf, max_features=self.features, random_state=seed % 2**32, n_jobs=1
        )
        target = y[:, columns]
        made.fit(filled(x, x)[0], target[:, 0] if len(columns) == 1 else target)
        return Forest(made, x, y, tuple(columns))
