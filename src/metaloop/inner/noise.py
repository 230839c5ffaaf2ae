"""Random numbers within a task, as a pure function of the task's number (``Examples.number``).

A generator's state would make a task's draws depend on what ran before it; these are the same in the loop, under vmap,
compiled, on every rank and after a resume.
"""

import math

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.system.counter_random import box_muller, scattered
from metaloop.types import Examples


def task_number(support: Examples) -> Tensor:
    """The scalar number of the task that ``support`` belongs to.

    Raises:
        UserError: nobody numbered the task.
    """
    if support.number is None:
        raise UserError("tasks that draw random numbers need Examples.number: pass Tasks, which set it, or number them")
    return support.number


def uniform(number: Tensor, stream: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Numbers in (0, 1] of ``shape``, of torch's default type, on ``number``'s device.

    Args:
        number: int64 scalar, the task's number.
        stream: tells apart what one task draws for different purposes; a whole number of at least 0.
        shape: of the result.
    """
    key = scattered(scattered(number ^ scattered(stream)) ^ (number >> 32))
    counter = torch.arange(math.prod(shape), device=number.device)
    return ((scattered(key ^ scattered(counter)) + 0.5) / 2.0**32).reshape(shape)


def normal(number: Tensor, stream: int, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Independent standard normal numbers of ``shape`` (Box and Muller 1958); arguments as for :func:`uniform`."""
    radius, angle = uniform(number, stream, (2, *shape))
    # Drawn in torch's default type whatever the result's, so that a float64 check sees the numbers that float32 training sees.
    return box_muller(radius, angle).to(dtype)
