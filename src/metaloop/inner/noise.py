"""Random numbers within a task, as a pure function of the task's number (``Examples.number``).

A generator's state would make a task's draws depend on what ran before it; these are the same in the loop, under vmap,
compiled, on every rank and after a resume.
"""

import math
from typing import Any

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.types import Examples

_LOW = 0xFFFFFFFF


def task_number(support: Examples) -> Tensor:
    """The scalar number of the task that ``support`` belongs to.

    Raises:
        UserError: nobody numbered the task.
    """
    if support.number is None:
        raise UserError("tasks that draw random numbers need Examples.number: pass Tasks, which set it, or number them")
    return support.number


def uniform(number: Tensor, stream: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Float64 numbers in (0, 1) of ``shape`` on ``number``'s device.

    Args:
        number: int64 scalar, the task's number.
        stream: tells apart what one task draws for different purposes; a whole number of at least 0.
        shape: of the result.
    """
    key = _mixed(_mixed(number ^ _mixed(stream)) ^ (number >> 32))
    counter = torch.arange(math.prod(shape), device=number.device)
    return ((_mixed(key ^ _mixed(counter)) + 0.5) / 2.0**32).reshape(shape)


def normal(number: Tensor, stream: int, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Independent standard normal numbers of ``shape`` (Box and Muller 1958); arguments as for :func:`uniform`."""
    radius, angle = uniform(number, stream, (2, *shape))
    # Drawn in float64 whatever the type, so that a float64 check sees the numbers that float32 training sees.
    return (torch.sqrt(-2 * torch.log(radius)) * torch.cos(2 * math.pi * angle)).to(dtype)


def _mixed(x: Any) -> Any:
    """A bijection of 32-bit numbers (int64 tensors or plain) that scatters them: Wellons' "lowbias32" hash."""
    x = x & _LOW
    x = x ^ (x >> 16)
    x = _times(x, 0x7FEB352D)
    x = x ^ (x >> 15)
    x = _times(x, 0x846CA68B)
    return x ^ (x >> 16)


def _times(x: Any, factor: int) -> Any:
    """The low 32 bits of a product, without leaving int64."""
    return (((x * (factor >> 16) & 0xFFFF) << 16) + x * (factor & 0xFFFF)) & _LOW
