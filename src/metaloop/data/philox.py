"""Random numbers of episodes: the draw for episode *i* is a pure function of (seed, split, i).

A block of episodes is drawn at once by Philox, with the same bits on every device.
"""

import zlib
from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.system.counter_random import box_muller, philox4x32

_MASK = 0xFFFFFFFF
_CACHED = 1 << 14  # blocks of four words that the CPU computes at once, so that they stay in its cache: three times as fast


@dataclass(frozen=True)
class Stream:
    """The random numbers of the episodes of one split.

    Attributes:
        seed: seed in [0, 2**32).
        split: name of the split; the numbers of different splits are independent.
    """

    seed: int
    split: str

    def bits(self, numbers: Tensor, words: int, purpose: str) -> Tensor:
        """Draw 32 random bits for every episode and word.

        Args:
            numbers: (episodes,) int64, numbers of the episodes.
            words: number of words for each episode.
            purpose: name of what the bits decide ("classes", "drawings", ...). Purposes are independent, so a new one does not
                change the draws of others.

        Returns:
            (episodes, words) int64 in [0, 2**32); word *j* does not depend on ``words``.
        """
        blocks = -(-words // 4)
        rows = max(1, _CACHED // max(1, blocks))
        if numbers.device.type == "cpu" and len(numbers) > rows:
            return torch.cat([self.bits(part, words, purpose) for part in torch.split(numbers, rows)])
        shape = (len(numbers), blocks)
        block = torch.arange(blocks, device=numbers.device).expand(shape)
        tag = torch.full(shape, zlib.crc32(purpose.encode()), dtype=torch.int64, device=numbers.device)
        low = (numbers & _MASK)[:, None].expand(shape)
        high = ((numbers >> 32) & _MASK)[:, None].expand(shape)
        key = (self.seed & _MASK, zlib.crc32(self.split.encode()))
        return torch.stack(philox4x32((block, tag, low, high), key), -1).reshape(len(numbers), -1)[:, :words]

    def integers(self, numbers: Tensor, words: int, purpose: str, bound: Tensor | int) -> Tensor:
        """Draw integers (episodes, words), uniform in [0, bound). ``bound`` broadcasts and is below 2**31."""
        return (self.bits(numbers, words, purpose) * bound) >> 32

    def uniform(self, numbers: Tensor, words: int, purpose: str) -> Tensor:
        """Draw float64 numbers (episodes, words), uniform in [0, 1)."""
        return self.bits(numbers, words, purpose).double() * 2.0**-32

    def normal(self, numbers: Tensor, words: int, purpose: str) -> Tensor:
        """Draw standard normal float64 numbers (episodes, words), by the method of Box and Muller."""
        u = (self.bits(numbers, 2 * words, purpose).double() + 0.5) * 2.0**-32
        return box_muller(u[:, 0::2], u[:, 1::2])

    def without_replacement(self, numbers: Tensor, sizes: Tensor, count: int, purpose: str) -> Tensor:
        """Draw in order without replacement, by the first ``count`` steps of a Fisher-Yates shuffle.

        Args:
            numbers: (episodes,) int64, numbers of the episodes.
            sizes: (episodes, groups) int64, number of items in each group, at least ``count``.
            count: number of draws from each group.
            purpose: see :meth:`bits`.

        Returns:
            (episodes, groups, count) int64; the entries of a group are distinct and in [0, size).
        """
        groups = sizes.shape[1]
        bits = self.bits(numbers, groups * count, purpose).view(len(numbers), groups, count)
        offsets = torch.arange(count, device=sizes.device)
        places = offsets + ((bits * (sizes[..., None] - offsets)) >> 32)
        # The shuffled array is not stored: a place holds its own number unless an earlier swap wrote to it.
        moved = torch.empty_like(places)
        drawn = torch.empty_like(places)
        for k in range(count):
            written, values = places[..., :k], moved[..., :k]
            drawn[..., k] = _read(places[..., k], written, values)
            moved[..., k] = _read(torch.full_like(places[..., k], k), written, values)
        return drawn


def _read(place: Tensor, written: Tensor, values: Tensor) -> Tensor:
    """The content of ``place`` (...) after ``values`` (..., k) were written to the places ``written`` (..., k) in order."""
    if not written.shape[-1]:
        return place
    order = torch.arange(1, written.shape[-1] + 1, device=place.device)
    last = ((written == place[..., None]) * order).amax(-1, keepdim=True)
    content = values.gather(-1, (last - 1).clamp(min=0))[..., 0]
    return torch.where(last[..., 0] > 0, content, place)
