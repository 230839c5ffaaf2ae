"""Counter-based random numbers: pure functions of counters and keys, the same on every device, rank and after a resume.

There are two generators. Philox draws episodes. A hash draws everything inside a task (fresh starts, noise, augmentation),
because it needs less arithmetic under vmap. Both hold 32-bit words in int64 tensors.
"""

from typing import Any

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Compute ten Philox rounds of four words, given as tensors of one shape; return four such tensors.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # 64-bit products; the sign bit is a bit like the others
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ k0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def scattered(x: Any) -> Any:
    """Scatter 32-bit words (int64 tensors or plain numbers) by a bijection, Wellons' "lowbias32" hash."""
    x = x & _MASK
    x = x ^ (x >> 16)
    x = _times(x, 0x7FEB352D)
    x = x ^ (x >> 15)
    x = _times(x, 0x846CA68B)
    return x ^ (x >> 16)


def _times(x: Any, factor: int) -> Any:
    """The low 32 bits of a product, computed without overflow of int64."""
    return (((x * (factor >> 16) & 0xFFFF) << 16) + x * (factor & 0xFFFF)) & _MASK


def box_muller(first: Tensor, second: Tensor) -> Tensor:
    """Standard normal numbers from two tensors of independent uniform numbers in (0, 1] (Box and Muller 1958)."""
    return torch.sqrt(-2.0 * torch.log(first)) * torch.cos(2.0 * torch.pi * second)
