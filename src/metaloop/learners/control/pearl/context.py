"""The permutation-invariant encoder of a context of transitions (Rakelly et al. 2019, equation 3)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.learners.control.latent.posterior import Posterior
from metaloop.models.mlp import MLP

_LEAST = 1e-7  # of a factor's variance, as in the authors' code


class Factors:
    """A product of normal distributions of independent entries, as sums over its factors.

    Args:
        precision: (tasks, latent), sum of the factors' precisions; 0 without any factor.
        weighted: (tasks, latent), sum of their means times precisions.
    """

    def __init__(self, precision: Tensor, weighted: Tensor) -> None:
        self.precision = precision
        self.weighted = weighted

    @classmethod
    def none(cls, tasks: int, latent: int, like: Tensor) -> "Factors":
        """Return products without factors."""
        return cls(like.new_zeros(tasks, latent), like.new_zeros(tasks, latent))

    def times(self, other: "Factors") -> "Factors":
        """Return the product of both."""
        return Factors(self.precision + other.precision, self.weighted + other.weighted)

    @property
    def posterior(self) -> Posterior:
        """The product itself; the standard normal prior, which is no factor of it, where there is none."""
        some = self.precision > 0
        precision = torch.where(some, self.precision, torch.ones_like(self.precision))
        return Posterior(self.weighted / precision, -precision.log())


class ContextEncoder(nn.Module):
    """A network that answers, for each transition, a normal factor of the posterior over the task.

    Args:
        inputs: width of a transition: observation, action, reward, and perhaps the next observation.
        latent: entries of the latent variable.
        hidden: widths of the hidden layers, with ReLU.
    """

    def __init__(self, inputs: int, latent: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.latent = latent
        self.net = MLP((inputs,), 2 * latent, hidden)

    def factors(self, transitions: Tensor, real: Tensor) -> Factors:
        """Return the product of the factors of transitions (tasks, transitions, inputs), without those that are not real."""
        answers = self.net(transitions.flatten(0, 1)).view(*transitions.shape[:2], -1)
        mean, raw = answers.chunk(2, -1)
        precision = real[..., None] / F.softplus(raw).clamp(min=_LEAST)
        return Factors(precision.sum(1), (mean * precision).sum(1))
