"""Parts of learned optimisers that treat every coordinate alike."""

import math

import torch
from torch import Tensor, nn

from metaloop.types import Params


def joined(tensors: Params) -> Tensor:
    """Join all numbers of the tensors into one vector (coordinates,)."""
    return torch.cat([value.reshape(-1) for value in tensors.values()])


def parted(vector: Tensor, like: Params) -> Params:
    """Split a vector (coordinates,) into tensors named and shaped as ``like``: the inverse of :func:`joined`."""
    parts = torch.split(vector, [value.numel() for value in like.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}


def log_and_sign(values: Tensor, p: float = 10.0) -> Tensor:
    """Return (..., 2): logarithm and sign of numbers of very different sizes (Andrychowicz et al. 2016, appendix A).

    They are ``(log|v| / p, sign(v))`` where ``|v| >= e^-p``, else ``(-1, e^p v)``. Derivatives are finite, also at zero.
    """
    size = values.abs().clamp(min=math.exp(-p)).log() / p
    return torch.stack([size, (math.exp(p) * values).clamp(-1.0, 1.0)], dim=-1)


class LSTMCell(nn.Module):
    """One step of a long short-term memory for many coordinates at once (Hochreiter and Schmidhuber 1997, with forget gates).

    It is written as matrix products because torch's own cell has no second derivative on a GPU.

    Args:
        inputs: number of inputs.
        hidden: number of outputs and of cells.
        dtype: type of the weights, which start uniform in +-1/sqrt(hidden); the forget gates' bias starts at 1.
    """

    def __init__(self, inputs: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.weight = nn.Parameter(torch.empty(inputs + hidden, 4 * hidden, dtype=dtype).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.cat([torch.ones(hidden, dtype=dtype), torch.zeros(3 * hidden, dtype=dtype)]))

    def forward(self, x: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next output and cell, each (coordinates, hidden), from ``x`` (coordinates, inputs) and the last ones."""
        forget, enter, leave, new = (torch.cat([x, output], -1) @ self.weight + self.bias).chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * cell.tanh(), cell
