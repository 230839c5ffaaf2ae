"""Torch's optimisers as pure functions of flat vectors, equal to ``optimizer.step()`` up to rounding.

Numbers that change from step to step (the rate, bias corrections) are inputs, so that one compiled function serves all steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]


class Update(ABC):
    """The update of one parameter group.

    Attributes:
        buffers: Names of the vectors that the optimiser keeps for every parameter, as in its state.
        numbers: How many numbers :meth:`numbers_at` returns.

    Args:
        group: The optimiser's parameter group, whose settings do not change, except for the rate.
    """

    buffers: tuple[str, ...]
    numbers: ClassVar[int]

    def __init__(self, group: Group) -> None:
        self.settings = {name: value for name, value in group.items() if name not in ("params", "lr")}

    def ascent(self, gradient: Tensor) -> Tensor:
        """The gradient, or its negative if the optimiser maximises."""
        return -gradient if self.settings["maximize"] else gradient

    @abstractmethod
    def numbers_at(self, rate: float, count: int) -> Sequence[float]:
        """The numbers of one step, from its rate and how many steps the optimiser has taken with it."""

    @abstractmethod
    def __call__(
        self, vector: Tensor, gradient: Tensor, buffers: Sequence[Tensor], numbers: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the parameters and buffers after a step.

        Args:
            vector: The parameters.
            gradient: Their gradient.
            buffers: In the order of ``self.buffers``.
            numbers: Result of :meth:`numbers_at`, (numbers,).
        """


class DescentUpdate(Update):
    """``torch.optim.SGD``, with momentum."""

    numbers = 1

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.buffers = ("momentum_buffer",) if self.settings["momentum"] else ()

    def numbers_at(self, rate: float, count: int) -> Sequence[float]:
        """See :meth:`Update.numbers_at`: the rate."""
        return (rate,)

    def __call__(
        self, vector: Tensor, gradient: Tensor, buffers: Sequence[Tensor], numbers: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`Update.__call__`."""
        settings = self.settings
        direction = self.ascent(gradient)
        if settings["weight_decay"]:
            direction = direction + settings["weight_decay"] * vector
        if not buffers:
            return vector - numbers[0] * direction, []
        buffer = settings["momentum"] * buffers[0] + (1 - settings["dampening"]) * direction
        direction = direction + settings["momentum"] * buffer if settings["nesterov"] else buffer
        return vector - numbers[0] * direction, [buffer]


class MomentsUpdate(Update):
    """``torch.optim.Adam`` and ``AdamW``."""

    buffers = ("exp_avg", "exp_avg_sq")
    numbers = 3

    def numbers_at(self, rate: float, count: int) -> Sequence[float]:
        """See :meth:`Update.numbers_at`: the step's size, the root of the second correction, and the share that decays."""
        first, second = self.settings["betas"]
        return rate / (1 - first**count), (1 - second**count) ** 0.5, rate * self.settings["weight_decay"]

    def __call__(
        self, vector: Tensor, gradient: Tensor, buffers: Sequence[Tensor], numbers: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """See :meth:`Update.__call__`."""
        settings = self.settings
        first, second = settings["betas"]
        direction = self.ascent(gradient)
        if settings["weight_decay"] and settings["decoupled_weight_decay"]:
            vector = vector - numbers[2] * vector
        elif settings["weight_decay"]:
            direction = direction + settings["weight_decay"] * vector
        mean = buffers[0] + (1 - first) * (direction - buffers[0])
        square = second * buffers[1] + (1 - second) * direction * direction
        after = vector - numbers[0] * (mean / (square.sqrt() / numbers[1] + settings["eps"]))
        return after, [mean, square]


_UPDATES: dict[type[Optimizer], type[Update]] = {
    torch.optim.SGD: DescentUpdate,
    torch.optim.Adam: MomentsUpdate,
    torch.optim.AdamW: MomentsUpdate,
}


def update_of(optimizer: Optimizer) -> Update | str:
    """The optimiser's update as a pure function, or in words why there is none."""
    kind = _UPDATES.get(type(optimizer))
    if kind is None:
        return f"outer.optimizer is {type(optimizer).__name__}; SGD, Adam and AdamW can be captured"
    if len(optimizer.param_groups) != 1:
        return f"the outer optimiser has {len(optimizer.param_groups)} parameter groups"
    group = optimizer.param_groups[0]
    for name in ("amsgrad", "differentiable"):
        if group.get(name):
            return f"outer.optimizer.{name}=true"
    return kind(group)
