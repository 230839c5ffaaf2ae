"""Distributions over actions: how the outputs of a policy's network are read, drawn from and compared."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.control.noise import chosen, normal
from metaloop.problems.control import Actions

_LEAST = math.log(1e-6)  # of a logarithm of a deviation, so that no density is infinite


class ActionDistribution(ABC):
    """A family of distributions over actions, whose parameters are the outputs (..., outputs) of a network.

    Attributes:
        words: uniform numbers that a draw needs.
    """

    words: int

    @abstractmethod
    def draw(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Draw actions, (n,) int64 or float (n, count), from outputs (n, outputs) and uniform numbers (n, words)."""

    @abstractmethod
    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Return the logarithms of the probabilities (or densities) of actions, (...)."""

    @abstractmethod
    def divergence(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence (...) of the second distribution from the first: E_first[log first/second]."""

    @abstractmethod
    def entropy(self, outputs: Tensor) -> Tensor:
        """Return the entropy (...), in nats; of continuous actions the differential entropy."""


class Categorical(ActionDistribution):
    """Discrete actions; the outputs are their unnormalized log-probabilities."""

    words = 1

    def draw(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.draw`."""
        return chosen(outputs.softmax(-1), uniform[:, 0])

    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.log_probability`."""
        return F.log_softmax(outputs, -1).gather(-1, actions[..., None])[..., 0]

    def divergence(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.divergence`."""
        log_first, log_second = F.log_softmax(first, -1), F.log_softmax(second, -1)
        return (log_first.exp() * (log_first - log_second)).sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.entropy`."""
        log_probabilities = F.log_softmax(outputs, -1)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)


class Gaussian(ActionDistribution):
    """Vectors of independent normal numbers; the outputs are their means, then the logarithms of their deviations.

    Args:
        count: entries of an action.
    """

    def __init__(self, count: int) -> None:
        self.words = 2 * count

    def draw(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.draw`."""
        mean, log_deviation = self._parts(outputs)
        return mean + log_deviation.exp() * normal(*uniform.chunk(2, -1)).to(mean)

    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.log_probability`."""
        mean, log_deviation = self._parts(outputs)
        standard = (actions - mean) * (-log_deviation).exp()
        return -(0.5 * standard**2 + log_deviation + 0.5 * math.log(2 * math.pi)).sum(-1)

    def divergence(self, first: Tensor, second: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.divergence`."""
        (mean, log_deviation), (other, log_other) = self._parts(first), self._parts(second)
        squares = ((2 * log_deviation).exp() + (mean - other) ** 2) * (-2 * log_other).exp()
        return (log_other - log_deviation + 0.5 * (squares - 1)).sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """See :meth:`ActionDistribution.entropy`."""
        return (self._parts(outputs)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

    @staticmethod
    def _parts(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_deviation = torch.chunk(outputs, 2, -1)
        return mean, log_deviation.clamp(min=_LEAST)


def distribution_of(actions: Actions) -> ActionDistribution:
    """Return the distribution for these actions."""
    return Gaussian(actions.count) if actions.continuous else Categorical()
