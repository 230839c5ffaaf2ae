"""Likelihoods of what a decoder predicts."""

import math
from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from metaloop.errors import UserError


class Likelihood(ABC):
    """A family of distributions of one number, each of which a network's output names."""

    @abstractmethod
    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return the log-probabilities (or densities) of values, in the shape of both."""


class FixedNormal(Likelihood):
    """A normal distribution around the output.

    Args:
        deviation: its standard deviation, above 0.
    """

    def __init__(self, deviation: float) -> None:
        if not deviation > 0:
            raise UserError(f"algorithm.likelihood.deviation={deviation}: above 0")
        self.deviation = deviation

    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        """See :meth:`Likelihood.log_probability`."""
        return -0.5 * ((values - outputs) / self.deviation) ** 2 - math.log(self.deviation) - 0.5 * math.log(2 * math.pi)


class BernoulliOutcome(Likelihood):
    """Whether a value is above 0; the output is the logit. For rewards that are paid or not, as in dark rooms."""

    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        """See :meth:`Likelihood.log_probability`."""
        return -F.binary_cross_entropy_with_logits(outputs, (values > 0).to(outputs), reduction="none")
