"""What a comparison of queries with a support set is, and the arithmetic that comparisons share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.types import Examples


@dataclass(frozen=True)
class Embedding:
    """What the model answers for an example, for comparisons whose parameters have its size.

    Attributes:
        features: how many; None where the model does not say.
        map_shape: (channels, height, width) of its feature maps; None for a model without.
    """

    features: int | None
    map_shape: tuple[int, int, int] | None

    def width(self) -> int:
        """How many features; a UserError where nobody knows."""
        if self.features is None:
            raise UserError("model: it does not say how many features it answers; give it an attribute features, their number")
        return self.features

    def maps(self) -> tuple[int, int, int]:
        """The maps' shape; a UserError where there are none."""
        if self.map_shape is None:
            raise UserError("model: this algorithm compares feature maps, and the model answers vectors; take model=conv4_maps")
        return self.map_shape


class Comparison(nn.Module, ABC):
    """From one task's features to logits; its parameters are meta-parameters.

    There is no leading task axis, and no shape depends on the data, so that vmap runs it.

    Attributes:
        transductive: do queries see each other here?
        uses_unlabelled: does it look at unlabelled examples?
        maps: does it want feature maps (channels, height, width) instead of vectors?
    """

    transductive: ClassVar[bool] = False
    uses_unlabelled: ClassVar[bool] = False
    maps: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """(queries, ways) logits.

        Args:
            support: (examples, *features).
            labels: the task's support examples, of which y, mask and ways are of use.
            query: (queries, *features).
            query_mask: (queries,) which queries are real; None for all.
            unlabelled: (unlabelled, *features); None where there are none. ``labels.unlabelled_mask`` says which are real.
        """


def belongs(labels: Examples) -> Tensor:
    """(ways, examples) bool: which real support examples are of which class."""
    found = labels.y == torch.arange(labels.ways, device=labels.y.device)[:, None]
    return found if labels.mask is None else found & labels.mask


def class_means(features: Tensor, labels: Examples) -> Tensor:
    """(ways, features): the mean of each class's real support features (examples, features); zero for absent classes."""
    member = belongs(labels).to(features.dtype)
    return member @ features / member.sum(1, keepdim=True).clamp(min=1)


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """(m, n) squared Euclidean distances between the rows of (m, features) and (n, features)."""
    return ((left[:, None] - right[None]) ** 2).sum(-1)


def unit(rows: Tensor) -> Tensor:
    """Rows (..., features) of length one; zeros stay zeros, with a finite gradient."""
    return rows * torch.rsqrt((rows**2).sum(-1, keepdim=True) + 1e-12)


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """(m, n) cosines between the rows of (m, features) and (n, features)."""
    return unit(left) @ unit(right).T


class Scale(nn.Module):
    """A positive factor of logits, the inverse of a softmax's temperature.

    Args:
        start: its value, above 0.
        learned: whether it is a meta-parameter, learned as its logarithm.
    """

    def __init__(self, start: float, learned: bool) -> None:
        super().__init__()
        if not start > 0:
            raise UserError(f"algorithm.comparison.scale={start}: above 0")
        self.start = start
        self.log = nn.Parameter(torch.tensor(float(start)).log()) if learned else None

    def forward(self, logits: Tensor) -> Tensor:
        """``logits`` of any shape, scaled."""
        return logits * (self.start if self.log is None else self.log.exp())


def check_positive(key: str, value: float) -> float:
    """``value``, or a UserError where ``algorithm.comparison.<key>`` is not above 0."""
    if not value > 0:
        raise UserError(f"algorithm.comparison.{key}={value}: above 0")
    return float(value)


class AuxiliaryLoss(ABC):
    """What a comparison may add to the query loss in meta-training."""

    @abstractmethod
    def auxiliary_loss(self, support: Tensor, labels: Examples, query: Tensor, asked: Examples) -> Tensor:
        """Scalar, weighted as it is added; ``asked`` are the query examples, the rest is as in :meth:`Comparison.forward`."""
