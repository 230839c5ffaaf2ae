"""Random numbers within a task, as a pure function of the task's number (``Examples.number``).

With a stateful generator a task's draws would depend on what ran before it. These draws are the same in the loop, under
vmap, compiled, on every rank and after a resume.
"""

import math

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.system.counter_random import box_muller, scattered
from metaloop.types import Examples


def task_number(support: Examples) -> Tensor:
    """Return the number (scalar) of the task that ``support`` belongs to.

    Raises:
        UserError: the task has no number.
    """
    if support.number is None:
        raise UserError("tasks that draw random numbers need Examples.number: pass Tasks, which set it, or number them")
    return support.number


def uniform(number: Tensor, stream: int, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Draw uniform numbers in (0, 1], of torch's default type, on ``number``'s device.

    Args:
        number: the task's number, an int64 scalar.
        stream: whole number of at least 0; draws of one task for different purposes take different streams.
        shape: shape of the result.
    """
    key = scattered(scattered(number ^ scattered(stream)) ^ (number >> 32))
    counter = torch.arange(math.prod(shape), device=number.device)
    values: Tensor = (scattered(key ^ scattered(counter)) + 0.5) / 2.0**32
    return values.reshape(shape)


def normal(number: Tensor, stream: int, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Draw independent standard normal numbers of ``shape`` (Box and Muller 1958); arguments as for :func:`uniform`."""
    radius, angle = uniform(number, stream, (2, *shape))
    # Drawn in torch's default type for every ``dtype``, so that a float64 check uses the numbers of float32 training.
    return box_muller(radius, angle).to(dtype)
