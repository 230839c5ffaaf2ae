"""Parameters that each task draws uniformly from a range."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import Params

Range = float | Sequence[float]


def checked_ranges(ranges: Mapping[str, Range], *, positive: bool) -> dict[str, tuple[float, float]]:
    """Return the ends (low, high) of ranges ``{key: value}`` of ``dataset.environment``.

    Args:
        ranges: a number, which all tasks have, or two, between which each task draws its own.
        positive: whether the numbers must be above 0.

    Raises:
        UserError: a range is none; names its key.
    """
    return {key: _ends(key, value, positive) for key, value in ranges.items()}


def _ends(key: str, value: Range, positive: bool) -> tuple[float, float]:
    ends = [value, value] if isinstance(value, int | float) else list(value) if isinstance(value, Sequence) else []
    numbers = len(ends) == 2 and all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
    if not numbers or ends[0] > ends[1] or (positive and not ends[0] > 0):
        kind = "numbers above 0" if positive else "numbers"
        raise UserError(f"dataset.environment.{key}={value}: a number, or a range [low, high] of {kind} with low <= high")
    return float(ends[0]), float(ends[1])


def drawn(
    ranges: Mapping[str, tuple[float, float]], stream: Stream, numbers: Tensor, dtype: torch.dtype = torch.float32
) -> Params:
    """Draw a number (tasks,) from each range, uniformly; the keys name the purposes of the draws."""
    return {key: (low + (high - low) * stream.uniform(numbers, 1, key)[:, 0]).to(dtype) for key, (low, high) in ranges.items()}
