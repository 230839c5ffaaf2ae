"""Normal posteriors over the latent variable of a task, with independent entries."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metaloop.control.noise import normal
from metaloop.control.watching import Belief


@dataclass(frozen=True)
class Posterior:
    """Normal distributions with diagonal covariances.

    Attributes:
        mean: (..., latent).
        log_variance: (..., latent).
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> "Posterior":
        """Read means and log-variances (..., 2 * latent)."""
        return cls(*moments.chunk(2, -1))

    @classmethod
    def prior(cls, like: Tensor) -> "Posterior":
        """Return standard normal distributions in the shape of ``like``."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    @property
    def belief(self) -> Belief:
        """The moments, for those who watch."""
        return Belief(self.mean.detach(), (0.5 * self.log_variance.detach()).exp())

    def drawn(self, uniform: Tensor) -> Tensor:
        """Draw (..., latent) from uniform numbers (..., 2 * latent), differentiably in the moments."""
        return self.mean + (0.5 * self.log_variance).exp() * normal(*uniform.chunk(2, -1)).to(self.mean)

    def divergence(self, other: "Posterior") -> Tensor:
        """Return the Kullback-Leibler divergence (...) E_self[log self/other], in nats."""
        squares = ((self.log_variance - other.log_variance).exp()) + (self.mean - other.mean) ** 2 * (-other.log_variance).exp()
        return 0.5 * (other.log_variance - self.log_variance + squares - 1).sum(-1)
