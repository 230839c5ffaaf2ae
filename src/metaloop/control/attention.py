"""A memory of a trial that attends to all of its steps so far: a causal transformer."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.control.memories import TrialMemory
from metaloop.errors import UserError

_ROOM = 32  # steps that a new cache has room for; a full one is doubled


class CausalTransformer(TrialMemory):
    """A transformer with causal attention over the steps of a trial, of any number.

    Blocks normalize before attention and before the network of each step, as those of GPT-2 (Radford et al. 2019). Positions
    turn half of the entries of queries and keys (Su et al. 2021, rotary embedding), so that attention sees how many steps ago
    something was; the other half compares contents alone. While acting, keys and values of earlier steps are kept, so a step
    costs as much as the history is long.

    Args:
        inputs: width of an input.
        hidden: width of a step inside, a multiple of 4 times ``heads``.
        layers: number of blocks.
        heads: number of attention heads.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, heads: int) -> None:
        super().__init__()
        for name, value in (("hidden", hidden), ("layers", layers), ("heads", heads)):
            if value < 1:
                raise UserError(f"algorithm.memory.{name}={value}: at least 1")
        if hidden % (4 * heads):
            raise UserError(f"algorithm.memory.hidden={hidden}: a multiple of 4 * algorithm.memory.heads={4 * heads}")
        self.features = hidden
        self.heads = heads
        self.embed = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(_Block(hidden, heads, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)

    def start(self, tasks: int, like: Tensor) -> "Cache":
        """See :meth:`TrialMemory.start`; a trial without steps."""
        shape = (len(self.blocks), 2, tasks, self.heads, _ROOM, self.features // self.heads)
        return Cache(like.new_zeros(shape))

    def step(self, x: Tensor, state: "Cache") -> tuple[Tensor, "Cache"]:
        """See :meth:`TrialMemory.step`; the new keys and values are written into ``state``."""
        state.make_room()
        hidden = self.embed(x)[:, None]
        for layer, block in enumerate(self.blocks):
            hidden = block(hidden, state, layer)
        state.length += 1
        return self.norm(hidden)[:, 0], state

    def sequence(self, x: Tensor) -> Tensor:
        """See :meth:`TrialMemory.sequence`."""
        hidden = self.embed(x).transpose(0, 1)
        for block in self.blocks:
            hidden = block(hidden)
        features: Tensor = self.norm(hidden)
        return features.transpose(0, 1)


@dataclass
class Cache:
    """Keys and values of the steps so far.

    Attributes:
        kept: (layers, 2, tasks, heads, room, entries), of which the first ``length`` places are in use.
        length: number of steps.
    """

    kept: Tensor
    length: int = 0

    def make_room(self) -> None:
        """Make room for one more step."""
        if self.length == self.kept.shape[-2]:
            self.kept = torch.cat([self.kept, torch.zeros_like(self.kept)], -2)

    def with_new(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's key and value (tasks, heads, 1, entries) of the new step; return those of all steps."""
        self.kept[layer, 0, :, :, self.length] = keys[:, :, 0]
        self.kept[layer, 1, :, :, self.length] = values[:, :, 0]
        all_keys, all_values = self.kept[layer, :, :, :, : self.length + 1]
        return all_keys, all_values


class _Block(nn.Module):
    def __init__(self, hidden: int, heads: int, layers: int) -> None:
        super().__init__()
        self.attention = _Attention(hidden, heads)
        self.norm = nn.LayerNorm(hidden)
        self.inner, self.outer = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        for last in (self.attention.out, self.outer):  # as in GPT-2, so that a sum over blocks keeps its scale
            nn.init.normal_(last.weight, std=1 / math.sqrt(2 * layers * last.in_features))
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        x = x + self.attention(x, cache, layer)
        result: Tensor = x + self.outer(F.gelu(self.inner(self.norm(x))))
        return result


class _Attention(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(hidden)
        self.inputs, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, cache: Cache | None, layer: int) -> Tensor:
        """Attend in (tasks, steps, hidden), or from the one new step of a cache to all of its steps."""
        split = self.inputs(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        first = 0 if cache is None else cache.length
        queries, keys = turned(split[0], first), turned(split[1], first)
        if cache is None:
            attended = F.scaled_dot_product_attention(queries, keys, split[2], is_causal=True)
        else:
            attended = F.scaled_dot_product_attention(queries, *cache.with_new(layer, keys, split[2]))
        result: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return result


def turned(x: Tensor, first: int) -> Tensor:
    """Turn the first half of the entries (..., steps, entries) by angles that grow with the step, from step ``first`` on.

    Products of two turned vectors depend on the difference of their steps alone.
    """
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half // 2, device=x.device, dtype=x.dtype) / max(1, half // 2))
    angles = torch.arange(first, first + x.shape[-2], device=x.device, dtype=x.dtype)[:, None] * rates
    one, two, rest = x[..., : half // 2], x[..., half // 2 : half], x[..., half:]
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([one * cosine - two * sine, one * sine + two * cosine, rest], -1)
