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
        x: with ``attention_mask``, whose zeros all follow its ones; a text of zeros alone is read in its whole length. On a
            GPU, where to ask for a length makes the host wait, ``read`` is called once with all of it.

    Returns:
        (texts, width), or (texts, length, width) with zeros where nothing was read: always the whole length, since a compiler
        would start again for another.
    """
    mask = x[MASK] != 0
    if mask.device.type != "cpu" or len(mask) == 0:
        return read(x)
    length = mask.shape[1]
    ends = torch.where(mask.any(1), length - mask.flip(1).int().argmax(1), length)
    order = ends.argsort(descending=True, stable=True)
    parts = [
        read({name: _cut(value[rows], length, int(ends[rows[0]])) for name, value in x.items()}) for rows in order.split(_ROWS)
    ]
    return torch.cat([_filled(part, length) for part in parts])[order.argsort()]


def _cut(value: Tensor, length: int, end: int) -> Tensor:
    return value[:, :end] if value.shape[1] == length else value


def _filled(answer: Tensor, length: int) -> Tensor:
    return pad(answer, (0, 0, 0, length - answer.shape[1])) if answer.ndim == 3 else answer
