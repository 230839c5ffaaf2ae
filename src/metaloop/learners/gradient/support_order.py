"""Orders in which inner steps go through the support examples, a batch at a time."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from metaloop.inner.noise import task_number, uniform
from metaloop.types import Examples

_STREAM = 3  # of random numbers, see metaloop.inner.noise
_PASS = 40  # lowest bit of the pass in a noise number; the bits below hold the task's number


class SupportOrder(ABC):
    """An order of batches of one task's support examples, each smaller than the support set."""

    @abstractmethod
    def rows(self, support: Examples, size: int, step: int) -> Tensor:
        """Return the rows (examples,) of ``support`` that inner step ``step`` sees, ``size`` or fewer of them."""


class Rotation(SupportOrder):
    """A fixed order that mixes classes; passes follow each other without a gap, so a batch may hold the end of one."""

    def rows(self, support: Examples, size: int, step: int) -> Tensor:
        """See :meth:`SupportOrder.rows`."""
        count = len(support.y)
        rows = torch.arange(step * size, (step + 1) * size, device=support.y.device) % count
        stride = next(s for s in range(int(count**0.5), count + 1) if math.gcd(s, count) == 1)
        return rows * stride % count  # they come class by class; the stride visits every example once


class Shuffled(SupportOrder):
    """Every pass in a new random order; passes follow each other without a gap (the code of Nichol et al. 2018)."""

    def rows(self, support: Examples, size: int, step: int) -> Tensor:
        """See :meth:`SupportOrder.rows`."""
        count = len(support.y)
        passes = range(step * size // count, ((step + 1) * size - 1) // count + 1)
        offset = step * size - passes.start * count
        return torch.cat([permutation(support, number) for number in passes])[offset : offset + size]


class Epochs(SupportOrder):
    """Every pass in a new random order, and its last batch is what is left (the code of Chen et al. 2019)."""

    def rows(self, support: Examples, size: int, step: int) -> Tensor:
        """See :meth:`SupportOrder.rows`."""
        number, batch = divmod(step, batches(len(support.y), size))
        return permutation(support, number)[batch * size : (batch + 1) * size]


def batches(examples: int, size: int | None) -> int:
    """Return the number of batches of ``size`` examples in one pass through ``examples``; None for all at once."""
    return 1 if size is None else -(-examples // size)


def permutation(support: Examples, number: int) -> Tensor:
    """Draw the order (examples,) of pass ``number`` through one task's support set, a function of the task's number."""
    shape = (len(support.y),)
    return uniform(task_number(support) + (number << _PASS), _STREAM, shape).argsort()
