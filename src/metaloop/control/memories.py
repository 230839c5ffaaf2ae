"""Memories of a trial: networks that read a history step by step, or a whole history at once."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from metaloop.errors import UserError


class TrialMemory(nn.Module, ABC):
    """A network over the history of a trial; reading it at once gives the same numbers as step by step.

    Attributes:
        features: width of what it returns.
    """

    features: int

    @abstractmethod
    def start(self, tasks: int, like: Tensor) -> Any:
        """Return the state of so many tasks before the first step, with tensors on the device and of the type of ``like``."""

    @abstractmethod
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one step (tasks, inputs); return features (tasks, features) and the new state.

        ``state`` may be changed in place; only the new one is used afterwards.
        """

    @abstractmethod
    def sequence(self, x: Tensor) -> Tensor:
        """Read a history (steps, tasks, inputs) from its start; return the features (steps, tasks, features) of each step."""


class GRU(TrialMemory):
    """Gated recurrent units (Cho et al. 2014), the memory of RL² (Duan et al. 2016, with 256 units).

    Args:
        inputs: width of an input.
        hidden: number of units.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        if hidden < 1:
            raise UserError(f"algorithm.memory.hidden={hidden}: at least 1")
        self.features = hidden
        self.units = nn.GRU(inputs, hidden)

    def start(self, tasks: int, like: Tensor) -> Tensor:
        """See :meth:`TrialMemory.start`."""
        return like.new_zeros(tasks, self.features)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`TrialMemory.step`."""
        _, (new,) = self.units(x[None], state[None])
        return new, new

    def sequence(self, x: Tensor) -> Tensor:
        """See :meth:`TrialMemory.sequence`."""
        features: Tensor = self.units(x)[0]
        return features
