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
        shape: (features,), or (channels, height, width) for comparisons of feature maps.
    """

    shape: tuple[int, ...]


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
            unlabelled: (unlabelled, *features); None where there are none.
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


def check_positive(key: str, value: float) -> float:
    """``value``, or a UserError where ``algorithm.comparison.<key>`` is not above 0."""
    if not value > 0:
        raise UserError(f"algorithm.comparison.{key}={value}: above 0")
    return value
