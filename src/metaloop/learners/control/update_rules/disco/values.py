"""Values of Disco103's agents: categorical action values, their targets by Retrace, and normalized advantages."""

from dataclasses import dataclass

import torch
from torch import Tensor

BINS, LARGEST = 601, 300.0  # of the categorical values, whose bins are at whole numbers
DISCOUNT, TRACE = 0.997, 0.95
_EPSILON = 1e-3  # of the hyperbolic transform
_DECAY, _SMALLEST, _SMALLEST_ROOT = 0.99, 1e-6, 1e-12  # of the moving averages


def hyperbolic(x: Tensor) -> Tensor:
    """The transform of values before they are put into bins (Pohlen et al. 2018)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + _EPSILON * x


def parabolic(x: Tensor) -> Tensor:
    """The inverse of :func:`hyperbolic`."""
    root = (1 + 4 * _EPSILON * (_EPSILON + 1 + x.abs())).sqrt() / (2 * _EPSILON) - 1 / (2 * _EPSILON)
    return x.sign() * (root**2 - 1)


def value_of(logits: Tensor) -> Tensor:
    """Values (...) from the logits of bins (..., 601)."""
    bins = torch.linspace(-LARGEST, LARGEST, BINS, device=logits.device, dtype=logits.dtype)
    return parabolic(logits.softmax(-1) @ bins)


def two_hot(value: Tensor) -> Tensor:
    """Probabilities of bins (..., 601) whose mean is the transformed value (...)."""
    place = hyperbolic(value).clamp(-LARGEST, LARGEST) + LARGEST
    lower = place.floor().clamp(max=BINS - 2)
    share = (place - lower)[..., None]
    probabilities = torch.zeros(*value.shape, BINS, device=value.device, dtype=value.dtype)
    index = lower.long()[..., None]
    return probabilities.scatter(-1, index, 1 - share).scatter(-1, index + 1, share)


def retrace(rewards: Tensor, discounts: Tensor, values: Tensor, chosen: Tensor, traces: Tensor) -> Tensor:
    """Targets of action values (Munos et al. 2016), computed backward.

    Args:
        rewards: (..., steps).
        discounts: (..., steps), 0 where an episode ends.
        values: (..., steps + 1), of states.
        chosen: (..., steps), values of the actions that were taken.
        traces: (..., steps), lambda times the truncated importance weight of these actions.

    Returns:
        (..., steps).
    """
    target = rewards[..., -1] + discounts[..., -1] * values[..., -1]
    targets = [target]
    for step in reversed(range(rewards.shape[-1] - 1)):
        later = values[..., step + 1] + traces[..., step + 1] * (target - chosen[..., step + 1])
        target = rewards[..., step] + discounts[..., step] * later
        targets.append(target)
    return torch.stack(targets[::-1], -1)


@dataclass(frozen=True)
class MovingAverage:
    """Moving averages of advantages and their squares, in each task.

    Attributes:
        first: (tasks,).
        second: (tasks,).
        left: how much of the first zeros is left in them.
    """

    first: Tensor
    second: Tensor
    left: float

    def updated(self, value: Tensor, square: Tensor) -> "MovingAverage":
        """The averages with a new mean of values and of squares, (tasks,) each."""
        first = _DECAY * self.first + (1 - _DECAY) * value
        return MovingAverage(first, _DECAY * self.second + (1 - _DECAY) * square, self.left * _DECAY)

    def normalized(self, x: Tensor) -> Tensor:
        """Shift and scale (tasks, ...) to mean 0 and deviation 1."""
        mean, square = self.first / (1 - self.left), self.second / (1 - self.left)
        deviation = ((square - mean**2).clamp(min=0) + _SMALLEST_ROOT).sqrt() + _SMALLEST
        shape = -1, *[1] * (x.dim() - 1)
        return (x - mean.view(shape)) / deviation.view(shape)
