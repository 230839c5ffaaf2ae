"""Random numbers of a trial, as a pure function of the task's number and the step."""

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.system.counter_random import box_muller

_TRIAL = Stream(0, "within a trial")  # the number of a task already depends on seed and split


class TrialNoise:
    """Uniform numbers of every step of a trial, drawn in blocks of steps.

    Every policy that acts in a task meets the same numbers, so that returns are paired.

    Args:
        numbers: (tasks,) int64, ``Examples.number`` of the tasks.
        words: numbers that a step needs.
        purpose: what they decide; different purposes are independent.
        block: steps that are drawn at once, a part of the definition; a draw of few numbers costs as much as one of many.
    """

    def __init__(self, numbers: Tensor, words: int, purpose: str, block: int = 64) -> None:
        self._numbers = numbers
        self._words = words
        self._purpose = purpose
        self._size = block
        self._step = 0
        self._block = -1  # that is drawn
        self._drawn = torch.empty(0, device=numbers.device)

    def next(self) -> Tensor:
        """Return the numbers of the next step, float32 (tasks, words) in [0, 1)."""
        block, place = divmod(self._step, self._size)
        self._step += 1
        if not self._words:
            return torch.empty(len(self._numbers), 0, device=self._numbers.device)
        if block != self._block:
            bits = _TRIAL.bits(self._numbers, self._size * self._words, f"{self._purpose} {block}")
            uniform = (bits >> 8).float() * 2.0**-24  # 24 bits, which float32 holds exactly, so that 1 is never reached
            self._block = block
            self._drawn = uniform.view(len(self._numbers), self._size, self._words).transpose(0, 1).contiguous()
        return self._drawn[place]

    def skip(self, steps: int) -> None:
        """Pass over the numbers of so many steps."""
        self._step += steps


def normal(first: Tensor, second: Tensor) -> Tensor:
    """Turn two tensors of independent uniform numbers in [0, 1) into standard normal numbers, float32.

    Computed in float64: in float32 the last bit of a logarithm depends on how many are computed together.
    """
    return box_muller(1 - first.double(), second.double()).float()


def chosen(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draw from categorical distributions by inverting their cumulative sums.

    Args:
        probabilities: (tasks, n), which need not add up to exactly 1.
        uniform: (tasks,) in [0, 1).

    Returns:
        (tasks,) int64 in [0, n).
    """
    cumulative = probabilities.cumsum(-1)
    return (cumulative <= (uniform * cumulative[..., -1])[..., None]).sum(-1).clamp(max=probabilities.shape[-1] - 1)
