"""The contract of comparisons of queries with a support set, and the arithmetic that they share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.types import Examples


@dataclass(frozen=True)
class Embedding:
    """The size of the model's output for one example, for comparisons whose parameters depend on it.

    Attributes:
        features: number of features; None if the model does not declare it.
        map_shape: (channels, height, width) of the feature maps; None for a model without feature maps.
    """

    features: int | None
    map_shape: tuple[int, int, int] | None

    def width(self) -> int:
        """Return the number of features.

        Raises:
            UserError: the model does not declare it.
        """
        if self.features is None:
            raise UserError(
                "model: it does not declare its number of features, which the comparison needs; set its attribute features"
            )
        return self.features

    def maps(self) -> tuple[int, int, int]:
        """Return the shape of the feature maps.

        Raises:
            UserError: the model has no feature maps.
        """
        if self.map_shape is None:
            raise UserError("model: this algorithm compares feature maps, and the model answers vectors; take model=conv4_maps")
        return self.map_shape


class Comparison(nn.Module, ABC):
    """A function from one task's features to logits. Its parameters are meta-parameters.

    Tensors have no task axis, and no shape depends on values, so that vmap can run it.

    Attributes:
        transductive: whether a query's logits depend on the other queries.
        uses_unlabelled: whether it uses unlabelled examples.
        maps: whether it compares feature maps (channels, height, width) instead of vectors.
    """

    transductive: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False
    maps: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """Compare queries with the support set, and return logits (queries, ways).

        Args:
            support: (examples, *features).
            labels: the task's support examples, for their labels ``y``, ``mask`` and ``ways``.
            query: (queries, *features).
            query_mask: (queries,) which queries are real; None for all.
            unlabelled: (unlabelled, *features); None if there are none. ``labels.unlabelled_mask`` is true for real ones.
        """


def belongs(labels: Examples) -> Tensor:
    """Mark each class's real support examples: (ways, examples) bool."""
    member = labels.y == torch.arange(labels.ways, device=labels.y.device)[:, None]
    return member if labels.mask is None else member & labels.mask


def class_means(features: Tensor, labels: Examples) -> Tensor:
    """Average each class's real support features (examples, features): (ways, features), zero for absent classes."""
    member = belongs(labels).to(features.dtype)
    return member @ features / member.sum(1, keepdim=True).clamp(min=1)


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of (m, features) and (n, features): (m, n)."""
    return ((left[:, None] - right[None]) ** 2).sum(-1)


def unit(rows: Tensor) -> Tensor:
    """Scale rows (..., features) to length one; rows of zeros stay zeros, with a finite gradient."""
    return rows * torch.rsqrt((rows**2).sum(-1, keepdim=True) + 1e-12)


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Cosines between the rows of (m, features) and (n, features): (m, n)."""
    return unit(left) @ unit(right).T


class Scale(nn.Module):
    """A positive factor of logits, the inverse of a softmax's temperature.

    Args:
        start: its initial value, above 0.
        learned: whether it is a meta-parameter; its logarithm is what is learned.
    """

    def __init__(self, start: float, learned: bool) -> None:
        super().__init__()
        if not start > 0:
            raise UserError(f"algorithm.comparison.scale={start}: above 0")
        self.start = start
        self.log = nn.Parameter(torch.tensor(float(start)).log()) if learned else None

    def forward(self, logits: Tensor) -> Tensor:
        """Scale ``logits`` of any shape."""
        return logits * (self.start if self.log is None else self.log.exp())


def check_positive(key: str, value: float) -> float:
    """Return ``value``.

    Raises:
        UserError: ``algorithm.comparison.<key>`` is not above 0.
    """
    if not value > 0:
        raise UserError(f"algorithm.comparison.{key}={value}: above 0")
    return float(value)


class AuxiliaryLoss(ABC):
    """A comparison that adds a loss to the query loss in meta-training."""

    @abstractmethod
    def auxiliary_loss(self, support: Tensor, labels: Examples, query: Tensor, query_labels: Examples) -> Tensor:
        """Compute the scalar that is added, its weight included.

        Args:
            support, labels, query: as in :meth:`Comparison.forward`.
            query_labels: the task's query examples, for their labels ``y`` and ``mask``.
        """
