"""The inner rule's state that goes on from one outer step to the next."""

import torch
from torch import Tensor, distributed, nn

from metaloop.inner.problem import STATE
from metaloop.inner.rules.coordinates import joined, parted
from metaloop.inner.rules.learned_rates import key_of
from metaloop.types import Params


class KeptState(nn.Module):
    """Buffers with the state of an inner rule, which are saved with the parameters; without tensors it does nothing.

    Args:
        first: the state before the first outer step, by name.
    """

    def __init__(self, first: Params) -> None:
        super().__init__()
        self._names = tuple(first)
        for name, value in first.items():
            self.register_buffer(key_of(name), value.detach().clone())

    def values(self) -> Params:
        """Return the state as :meth:`metaloop.inner.problem.InnerProblem.first_state` reads it."""
        return {STATE + name: self.get_buffer(key_of(name)) for name in self._names}

    def move(self, ends: Params) -> None:
        """Take over the mean of the tasks' last states (tasks, ...), over all ranks of a distributed run."""
        if not self._names:
            return
        own = {name: self.get_buffer(key_of(name)) for name in self._names}
        total = torch.cat([joined({name: ends[name].sum(0) for name in own}), _count(ends)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(total)
        for name, value in parted(total[:-1] / total[-1], own).items():
            own[name].copy_(value)


def _count(ends: Params) -> Tensor:
    """Return the number of tasks (1,)."""
    first = next(iter(ends.values()))
    return first.new_full((1,), len(first))
