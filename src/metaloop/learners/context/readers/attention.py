"""Attention with masks, eager, so that vmap and float64 take it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.norm import LayerNorm

_NEVER = -1e9  # before the softmax; -inf would make rows without any key nan


def attend(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    """(m, v): scaled dot-product attention of queries (m, d) to keys (n, d) and values (n, v) where ``allowed`` (m or 1, n).

    A row that may look at nothing gets zeros. Leading axes, such as heads, are carried along.
    """
    scores = torch.where(allowed, queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1]), _NEVER)
    return (scores.softmax(-1) * allowed) @ values


class MultiHead(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2) of (m, width) to (n, width).

    Args:
        width: of everything, a multiple of ``heads``.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(
                f"algorithm.reader.heads={heads}: a number of at least 1 that divides algorithm.reader.width={width}"
            )
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # one would add the same to all scores of a query

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """(m, width); ``allowed`` (m or 1, n) says which of the n each may look at."""
        split = (self._split(self.query(queries)), self._split(self.key(keys)), self._split(self.value(values)))
        return self.out(attend(*split, allowed).transpose(0, 1).flatten(1))

    def _split(self, x: Tensor) -> Tensor:
        """(heads, n, width / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1)


class Layer(nn.Module):
    """A transformer layer, normalised before each part (Xiong et al. 2020).

    Args:
        width: of the tokens.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = LayerNorm(width), LayerNorm(width)
        self.attention = MultiHead(width, heads)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor, context: int, real: Tensor) -> Tensor:
        """(n, width) to the same; all look at the first ``context`` tokens alone, where these are ``real`` (context,)."""
        normed = self.before(tokens)
        seen = normed[:context]
        tokens = tokens + self.attention(normed, seen, seen, real[None])
        return tokens + self.narrow(F.gelu(self.wide(self.between(tokens))))
