"""Tensors by name in one flat vector, so that an optimiser's update is one operation for all of them."""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.types import Params

_ALIGNED = 16  # elements: every tensor starts at a multiple of 64 bytes in float32, as matrix products like it


@dataclass(frozen=True)
class Layout:
    """The places of tensors in a flat vector; gaps between them hold zeros.

    Attributes:
        shapes: Shape of each tensor, by name, in the order of the vector.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, tensors: Params) -> Self:
        """Lay out tensors of these names and shapes."""
        return cls(tuple((name, tuple(value.shape)) for name, value in tensors.items()))

    def pack(self, tensors: Params) -> Tensor:
        """Copy the tensors into a new vector."""
        flat = [tensors[name].reshape(-1) for name, _ in self.shapes]
        return torch.cat([F.pad(value, (0, _with_gap(len(value)) - len(value))) for value in flat])

    def unpack(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of a vector, by name."""
        views, start = {}, 0
        for name, shape in self.shapes:
            size = math.prod(shape)
            views[name] = vector[start : start + size].view(shape)
            start += _with_gap(size)
        return views


def _with_gap(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
