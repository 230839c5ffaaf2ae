"""A policy with a learned embedding of data sets: an encoder of the set of their known meta-features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.selection.neighbours import ranks
from metaloop.learners.selection.policy import (
    Array,
    Policy,
    PolicyFitter,
    Reasons,
    checked_share,
    greedy_portfolio,
    of_portfolio,
)

_RATE = 0.003  # of Adam
_RANKED = 3  # data sets that a reason counts


class FeatureSet(nn.Module):
    """Deep Sets (Zaheer et al. 2017) of meta-features: each known one is an element, with a learned vector for its name.

    Args:
        features: number of meta-features.
        width: size of hidden layers.
        size: of the embedding.
    """

    def __init__(self, features: int, width: int, size: int) -> None:
        super().__init__()
        self.names = nn.Parameter(torch.randn(features, width) / width**0.5)
        self.slopes = nn.Parameter(torch.randn(features, width) / width**0.5)
        self.element = nn.Linear(width, width)
        self.whole = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))

    def forward(self, places: Tensor, known: Tensor) -> Tensor:
        """Embed data sets.

        Args:
            places: (n, features) in [0, 1], quantiles of the meta-features.
            known: (n, features) bool, the elements of the set.

        Returns:
            (n, size).
        """
        elements = F.relu(self.element(F.relu(self.names + (places - 0.5)[..., None] * self.slopes)))
        weight = known.to(elements.dtype)[..., None]
        pooled = (elements * weight).sum(1) / weight.sum(1).clamp(min=1)
        embedded: Tensor = self.whole(pooled)
        return embedded


def _votes(query: Tensor, reference: Tensor, *, left_out: bool) -> Tensor:
    """Weights (n, m) of the reference data sets, which fall with the squared distance of embeddings."""
    scores = -torch.cdist(query, reference).square()
    if left_out:
        scores = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    return scores.softmax(-1)


@dataclass(frozen=True)
class Embedded(Policy):
    """Performances of the training data sets, weighted by the similarity of embeddings.

    Attributes:
        encoder: the trained encoder.
        reference: (n, features) meta-features of the training data sets.
        y: (n, learners) their performances.
        columns: the portfolio.
    """

    encoder: FeatureSet
    reference: Array
    y: Array
    columns: tuple[int, ...]

    def embeddings(self, x: Array) -> Tensor:
        """Embed data sets, (n, size)."""
        with torch.no_grad():
            embedded: Tensor = self.encoder(*_elements(x, self.reference))
        return embedded

    def weights(self, x: Array) -> Array:
        """Weights (n, training data sets)."""
        votes = _votes(self.embeddings(x), self.embeddings(self.reference), left_out=False)
        return np.asarray(votes.double().numpy())

    def values(self, x: Array) -> Array:
        """See :meth:`Policy.values`."""
        return of_portfolio(self.weights(x) @ self.y[:, self.columns], self.columns, self.y)

    def reasons(self, features: Sequence[str], learners: Sequence[str], x: Array | None = None) -> Reasons:
        """See :meth:`Policy.reasons`."""
        if x is None:
            return Reasons()
        weight, chosen = self.weights(x[None])[0], int(self.values(x[None])[0].argmax())
        near = np.argsort(-weight)[:_RANKED]
        mean = self.y[near, chosen].mean()
        return Reasons(
            choice=(
                f"it does best on the data sets with a similar embedding; the {_RANKED} nearest count {weight[near].sum():.0%} "
                f"of all, and its mean performance there is {mean:.4f}",
            )
        )


def _elements(x: Array, reference: Array) -> tuple[Tensor, Tensor]:
    known = ~np.isnan(x)
    return torch.from_numpy(ranks(x, reference)).float(), torch.from_numpy(known)


class DatasetEmbedding(PolicyFitter):
    """An embedding in which data sets are near each other if the same learners do well on them.

    A prediction is the mean of the known performances, weighted by a softmax of minus squared distances, as in neighbourhood
    components analysis (Goldberger et al. 2004). The encoder is trained to predict each data set from the others, by the
    squared error over the portfolio. In each step, random meta-features are hidden.

    Args:
        width: size of hidden layers.
        size: of the embedding.
        steps: of Adam.
        hidden: share of the meta-features that a step hides.
        decay: weight decay.
        portfolio: share of the gap that the learners to choose from close.
    """

    def __init__(self, width: int, size: int, steps: int, hidden: float, decay: float, portfolio: float) -> None:
        for key, value in (("width", width), ("size", size), ("steps", steps)):
            if value < 1:
                raise UserError(f"algorithm.policy.{key}={value} must be at least 1")
        if not 0 <= hidden < 1:
            raise UserError(f"algorithm.policy.hidden={hidden} must be a share in [0, 1)")
        self.width, self.size, self.steps, self.hidden, self.decay = width, size, steps, hidden, decay
        self.portfolio = checked_share("portfolio", portfolio)

    def fit(self, x: Array, y: Array, seed: int) -> Embedded:
        """See :meth:`PolicyFitter.fit`."""
        columns = greedy_portfolio(y, self.portfolio)
        target = torch.from_numpy(y[:, columns]).float()
        scale = target.std().clamp(min=1e-9)
        places, known = _elements(x, x)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            encoder = FeatureSet(x.shape[1], self.width, self.size)
            optimizer = torch.optim.AdamW(encoder.parameters(), lr=_RATE, weight_decay=self.decay)
            for _ in range(self.steps if len(y) > 2 else 0):
                shown = known & (torch.rand(places.shape) >= self.hidden)
                embedded = encoder(places, shown)
                predicted = _votes(embedded, embedded, left_out=True) @ target
                loss = ((predicted - target) / scale).square().mean()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return Embedded(encoder.requires_grad_(False), x, y, tuple(columns))
