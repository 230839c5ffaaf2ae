"""Parameters and optimiser state as flat vectors, read before a stretch and written back after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from metaloop.training.stretches.layout import Layout
from metaloop.training.stretches.updates import Update
from metaloop.types import Params


@dataclass(frozen=True)
class OptimizerState:
    """Access to an optimiser that has taken at least one step with every parameter.

    Attributes:
        optimizer: The optimiser.
        parameters: Its parameters by name.
        update: Its update, which names the buffers.
        layout: Places of the parameters in a vector.
    """

    optimizer: Optimizer
    parameters: Params
    update: Update
    layout: Layout

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def count(self) -> int:
        """Steps that the optimiser has taken, as far as it counts them."""
        return int(self._states[0].get("step", 0))

    def table(self, rates: Sequence[float]) -> Tensor:
        """The numbers that the update needs at each of the next steps, (steps, numbers), from their rates."""
        like, count = next(iter(self.parameters.values())), self.count
        numbers = [self.update.numbers_at(rate, count + 1 + step) for step, rate in enumerate(rates)]
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)

    def read(self) -> tuple[Tensor, list[Tensor]]:
        """Copies of the parameters and of the buffers."""
        with torch.no_grad():
            return self.layout.pack(self.parameters), [self.layout.pack(self._buffer(name)) for name in self.update.buffers]

    def write(self, vector: Tensor, buffers: list[Tensor], steps: int) -> None:
        """Copy the parameters and buffers after ``steps`` further steps into the optimiser."""
        with torch.no_grad():
            for name, value in self.layout.unpack(vector).items():
                self.parameters[name].copy_(value)
            for kind, buffer in zip(self.update.buffers, buffers, strict=True):
                for name, value in self.layout.unpack(buffer).items():
                    self._buffer(kind)[name].copy_(value)
        for state in self._states:
            if "step" in state:
                state["step"] += steps

    def _buffer(self, kind: str) -> dict[str, Tensor]:
        return {name: self.optimizer.state[parameter][kind] for name, parameter in self.parameters.items()}

    @property
    def complete(self) -> bool:
        """Whether every parameter has all buffers and the same count of steps."""
        full = all(isinstance(state.get(kind), Tensor) for state in self._states for kind in self.update.buffers)
        return full and len({int(state.get("step", 0)) for state in self._states}) == 1

    @property
    def _states(self) -> list[dict[str, Any]]:
        return [self.optimizer.state.get(parameter, {}) for parameter in self.parameters.values()]
