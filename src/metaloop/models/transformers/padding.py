"""Reading of texts without most of their padding, on devices where their lengths are known without waiting."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

MASK = "attention_mask"
_ROWS = 32  # number of texts of similar length that are read at once


def by_length(read: Callable[[Mapping[str, Tensor]], Tensor], x: Mapping[str, Tensor]) -> Tensor:
    """Apply ``read`` to inputs (texts, length) in groups of texts of similar length, cut to the longest text of the group.

    Args:
        read: maps inputs to (texts, width) or to states (texts, length, width); its result for a text must not depend on
            other texts.
        x: inputs with ``attention_mask``, whose zeros all follow its ones. A text of zeros alone is read in its whole length.
            On a GPU, where reading lengths makes the host wait, ``read`` is called once with all texts.

    Returns:
        (texts, width), or (texts, length, width) with zeros for positions that were not read. The length is always the whole
        length, because a compiler would compile again for another one.
    """
    mask = x[MASK] != 0
    if mask.device.type != "cpu" or len(mask) == 0:
        return read(x)
    length = mask.shape[1]
    ends = torch.where(mask.any(1), length - mask.flip(1).int().argmax(1), length)
    order = ends.argsort(descending=True, stable=True)
    parts = [
        read({name: _cut(value[rows], length, int(ends[rows[0]])) for name, value in x.items()})
        for rows in torch.split(order, _ROWS)
    ]
    return torch.cat([_filled(part, length) for part in parts])[order.argsort()]


def _cut(value: Tensor, length: int, end: int) -> Tensor:
    return value[:, :end] if value.shape[1] == length else value


def _filled(result: Tensor, length: int) -> Tensor:
    return pad(result, (0, 0, 0, length - result.shape[1])) if result.ndim == 3 else result
