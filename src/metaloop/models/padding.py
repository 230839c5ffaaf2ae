"""Reading texts without most of their padding, where finding out their lengths costs nothing."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

MASK = "attention_mask"
_ROWS = 32  # texts of about one length that are read at once


def by_length(read: Callable[[Mapping[str, Tensor]], Tensor], x: Mapping[str, Tensor]) -> Tensor:
    """What ``read`` answers for inputs (texts, length), calling it with texts of about one length and no longer than they are.

    Args:
        read: inputs to (texts, width), or to states (texts, length, width); a text's answer depends on no other text.
        x: with ``attention_mask``, whose zeros all follow its ones. On a GPU, where to ask for a length makes the host wait,
            ``read`` is called once with all of it.

    Returns:
        (texts, width), or (texts, longest text, width) with zeros behind a text's end.
    """
    if x[MASK].device.type != "cpu":
        return read(x)
    mask = x[MASK] != 0
    ends = torch.where(mask.any(1), mask.shape[1] - mask.flip(1).int().argmax(1), 1)
    order = ends.argsort(descending=True, stable=True)
    parts = [
        read({name: _cut(value[rows], mask.shape[1], int(ends[rows[0]])) for name, value in x.items()})
        for rows in order.split(_ROWS)
    ]
    return stacked(parts)[order.argsort()]


def stacked(parts: list[Tensor]) -> Tensor:
    """Rows of parts one after another; states (texts, length, width) get zeros up to the greatest length."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, 0) * (part.ndim - 2) + (0, longest - part.shape[1])) for part in parts])


def _cut(value: Tensor, length: int, end: int) -> Tensor:
    return value[:, :end] if value.shape[1] == length else value
