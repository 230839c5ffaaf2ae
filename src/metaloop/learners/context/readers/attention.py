"""Masked attention of plain operations, which vmap, float64 and second derivatives support."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.norm import LayerNorm

_MASKED = -1e9  # score of a masked key; with -inf, rows without any key would be nan


def attend(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    """Scaled dot-product attention: queries (m, d), keys (n, d) and values (n, v) to (m, v).

    A query attends to the keys where ``allowed`` (m or 1, n) is true; if there are none, it gets zeros. Leading axes, such as
    heads, are kept.
    """
    scores = torch.where(allowed, queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1]), _MASKED)
    return (scores.softmax(-1) * allowed) @ values


class MultiHead(nn.Module):
    """Multi-head attention of (m, width) to (n, width) (Vaswani et al. 2017, section 3.2.2).

    Args:
        width: size of queries, keys, values and outputs, a multiple of ``heads``.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(
                f"algorithm.reader.heads={heads}: a number of at least 1 that divides algorithm.reader.width={width}"
            )
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(
            width, width, bias=False
        )  # a bias would add the same number to all of a query's scores, which softmax ignores

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """Attend: (m, width). ``allowed`` (m or 1, n) is true where a query may attend to a key."""
        split = (self._split(self.query(queries)), self._split(self.key(keys)), self._split(self.value(values)))
        attended: Tensor = self.out(attend(*split, allowed).transpose(0, 1).flatten(1))
        return attended

    def _split(self, x: Tensor) -> Tensor:
        """Split (n, width) into heads: (heads, n, width / heads)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(0, 1)


class Layer(nn.Module):
    """A transformer layer with normalisation before attention and before the perceptron (Xiong et al. 2020).

    Args:
        width: size of a token.
        heads: number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = LayerNorm(width), LayerNorm(width)
        self.attention = MultiHead(width, heads)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor, context: int, real: Tensor) -> Tensor:
        """Map tokens (n, width) to the same shape; all attend to the first ``context`` that are ``real`` (context,)."""
        normed = self.before(tokens)
        keys = normed[:context]
        tokens = tokens + self.attention(normed, keys, keys, real[None])
        change: Tensor = self.narrow(F.gelu(self.wide(self.between(tokens))))
        return tokens + change
