"""Outer steps of several runs by one compiled function with an axis over the runs."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from metaloop.inner.execution.agreement import distance, rounding
from metaloop.training.packs.messages import Arrays, Steps, Stretch
from metaloop.training.packs.program import Program
from metaloop.training.stretches.captured import compiled

_GRADIENT, _BUFFERS = 2, 3  # places among the results of a step
_SHIFT = 0.01  # relative difference between the parameters of two runs of the check
_ROUNDS, _STEPS = 4, 10  # of timing


class PackedStep:
    """A compiled outer step of ``seats`` runs side by side.

    Args:
        program: The step of one run.
        example: Arguments of the step of one run, with the program's constants.
        seats: Number of runs.

    Raises:
        Exception: of many kinds, if the step cannot be traced with a further axis, or not compiled.
    """

    def __init__(self, program: Program, example: Sequence[Tensor], seats: int) -> None:
        self.seats = seats
        self._alone: Callable[..., Sequence[Tensor]] = program.module()
        self._example = [self._spread(argument) for argument in example]
        self._step = compiled(self._together, self._example)

    def _together(self, *arguments: Tensor) -> Sequence[Tensor]:
        return torch.func.vmap(lambda *one: tuple(self._alone(*one)))(*arguments)

    def _spread(self, argument: Tensor) -> Tensor:
        """One argument for all runs; floating-point ones differ a little from run to run."""
        if not argument.is_floating_point() or not argument.dim():
            return torch.stack([argument] * self.seats)
        return torch.stack([argument * (1 + _SHIFT * seat) for seat in range(self.seats)])

    def distance(self) -> float:
        """Largest relative distance of a run's gradient from the one that it has by itself."""
        with torch.no_grad():
            together = self._step(*self._example)[_GRADIENT]
            alone = [self._alone(*one)[_GRADIENT] for one in zip(*self._example, strict=True)]
        return max(distance({"": one}, {"": other}) for one, other in zip(alone, together, strict=True))

    def agrees(self) -> bool:
        """Whether that distance is rounding."""
        return self.distance() <= rounding(self._example[0].dtype)

    def seconds(self) -> float:
        """Processor time of a step of all runs: the shortest of several measurements."""
        times = []
        with torch.no_grad():
            for _ in range(_ROUNDS):
                start = time.process_time()
                for _ in range(_STEPS):
                    self._step(*self._example)
                times.append((time.process_time() - start) / _STEPS)
        return min(times)

    def take(self, stretches: Sequence[Stretch], constants: Sequence[Arrays]) -> list[Steps]:
        """Take equally many steps of up to ``seats`` runs. A seat that is left over repeats the first run's.

        Args:
            stretches: The steps of each run.
            constants: The program's constants in each run.
        """
        empty = self.seats - len(stretches)
        stretches, constants = [*stretches, *[stretches[0]] * empty], [*constants, *[constants[0]] * empty]
        vector = _stacked([one.vector for one in stretches])
        buffers = [_stacked(each) for each in zip(*(one.buffers for one in stretches), strict=True)]
        numbers = _stacked([one.numbers for one in stretches], axis=1).unbind()
        leaves = [_stacked(each, axis=1).unbind() for each in zip(*(one.leaves for one in stretches), strict=True)]
        fixed = [_stacked(each) for each in zip(*constants, strict=True)]
        losses = []
        with torch.no_grad():
            for number, *batch in zip(numbers, *leaves, strict=True):
                vector, loss, _, *buffers = self._step(vector, number, *buffers, *batch, *fixed)
                losses.append(loss)
        every = torch.stack(losses, 1).numpy()
        return [
            Steps(vector[run].numpy(), tuple(buffer[run].numpy() for buffer in buffers), every[run])
            for run in range(self.seats - empty)
        ]


def _stacked(values: Sequence[np.ndarray], axis: int = 0) -> Tensor:
    return torch.from_numpy(np.stack(values, axis))
