"""A model."""

import math

import torch
from torch import Tensor, nn


class TinyNet(nn.Module):
    """One hidden layer.

    Args:
        input_shape: one example's shape.
        outputs: numbers to answer; None: features.
        width: of the hidden layer.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None, width: int) -> None:
        super().__init__()
        self.body = nn.Linear(math.prod(input_shape), width)
        self.head = nn.Linear(width, outputs) if outputs is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(examples, *input) to (examples, outputs)."""
        return self.head(torch.relu(self.body(x.flatten(1))))
