"""Functions drawn from Gaussian processes with several kernels, and the exact posterior of each process."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metaloop.data.distribution import Oracle
from metaloop.data.functions.sinusoid import FunctionDistribution
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import Tasks

_JITTER = 1e-6  # added to the correlation of a point with itself, both in draws and in the posterior


def _rbf(r: Tensor, turns: Tensor, scale: Tensor) -> Tensor:
    return torch.exp(-r.square() / 2)


def _matern32(r: Tensor, turns: Tensor, scale: Tensor) -> Tensor:
    a = math.sqrt(3.0) * r
    return (1 + a) * torch.exp(-a)


def _matern52(r: Tensor, turns: Tensor, scale: Tensor) -> Tensor:
    a = math.sqrt(5.0) * r
    return (1 + a + a.square() / 3) * torch.exp(-a)


def _periodic(r: Tensor, turns: Tensor, scale: Tensor) -> Tensor:
    return torch.exp(-2 * (torch.sin(math.pi * turns) / scale).square())


# Rasmussen and Williams 2006, equations 4.9, 4.17 and 4.31. Arguments: distance in length scales, distance in periods,
# length scale.
KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "rbf": _rbf,
    "matern32": _matern32,
    "matern52": _matern52,
    "periodic": _periodic,
}


class GaussianProcesses(FunctionDistribution):
    """Tasks that are draws from Gaussian processes with mean zero. Every task has its own kernel.

    Kernel, length scale, amplitude and period are drawn uniformly from the given values. The function values of a task are
    drawn jointly through a Cholesky factor, in float64, so they follow the distribution of the process exactly.

    Args:
        kernels: one or more of "rbf", "matern32", "matern52", "periodic".
        length_scale: (low, high) in the unit of x; for the periodic kernel, in units of the sine.
        amplitude: (low, high) standard deviation of a function value, in the unit of y.
        period: (low, high) of the periodic kernel, in the unit of x.
        domain: (low, high) of x.
        noise: standard deviation of the observations around the function; above 0, since the likelihood needs it.
    """

    def __init__(
        self,
        kernels: Sequence[str],
        length_scale: tuple[float, float],
        amplitude: tuple[float, float],
        period: tuple[float, float],
        domain: tuple[float, float],
        noise: float,
    ) -> None:
        super().__init__(domain, noise)
        unknown = [name for name in kernels if name not in KERNELS]
        if unknown or not kernels:
            raise UserError(f"dataset.distribution.kernels={list(kernels)} must be one or more of {', '.join(KERNELS)}")
        for name, (low, high) in (("length_scale", length_scale), ("amplitude", amplitude), ("period", period)):
            if not 0 < low <= high:
                raise UserError(f"dataset.distribution.{name}={[low, high]} must satisfy 0 < low <= high")
        if not noise > 0:
            raise UserError(f"dataset.distribution.noise={noise} must be above 0")
        self.kernels = tuple(kernels)
        self.ranges = torch.tensor([length_scale, amplitude, period], dtype=torch.float64)

    def at(self, stream: Stream, numbers: Tensor, x: Tensor) -> Tensor:
        """See :meth:`FunctionDistribution.at`. The first rows of a Cholesky factor do not depend on later rows."""
        factor: Tensor = torch.linalg.cholesky(self.covariance(stream, numbers, x, x) + self._jitter(stream, numbers, x))
        return (factor @ stream.normal(numbers, x.shape[1], "values")[..., None])[..., 0]

    def covariance(self, stream: Stream, numbers: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Covariance (tasks, m, n) of the function values at ``left`` (tasks, m) and ``right`` (tasks, n)."""
        scale, amplitude, period = self._hyperparameters(stream, numbers)
        distance = (left[:, :, None] - right[:, None]).abs()
        chosen = stream.integers(numbers, 1, "kernel", len(self.kernels))[:, 0]
        each = torch.stack([KERNELS[name](distance / scale, distance / period, scale) for name in self.kernels])
        return amplitude.square() * each[chosen, torch.arange(len(numbers), device=numbers.device)]

    def oracle(self) -> Oracle:
        """See :meth:`TaskDistribution.oracle`."""
        return Oracle("exact Gaussian process, true kernel", self.posterior)

    def posterior(self, stream: Stream, tasks: Tasks) -> Tensor:
        """Mean and standard deviation (tasks, queries, 1, 2) of each query's ``y``, given the support set.

        This is the exact posterior of the process that generated the task, including noise (Rasmussen and Williams 2006,
        equations 2.23 and 2.24). No learner can have a higher expected log-likelihood.
        """
        numbers, support = tasks.index, tasks.support
        assert isinstance(support.x, Tensor)
        assert isinstance(tasks.query.x, Tensor)
        x, query = support.x[..., 0].double(), tasks.query.x[..., 0].double()
        real = torch.ones_like(x) if support.mask is None else support.mask.double()
        diagonal = torch.diag_embed(self.noise**2 * real + (1 - real)) + self._jitter(stream, numbers, x)
        # A padded point is uncorrelated with all others, so it has no influence.
        factor = torch.linalg.cholesky(self.covariance(stream, numbers, x, x) * real[:, :, None] * real[:, None] + diagonal)
        cross = self.covariance(stream, numbers, x, query) * real[:, :, None]
        weights = torch.cholesky_solve(cross, factor)
        mean = (weights * support.y.double()).sum(1)
        prior = self._hyperparameters(stream, numbers)[1][:, 0].square() * (1 + _JITTER) + self.noise**2
        variance = prior - (weights * cross).sum(1)
        return torch.stack([mean, variance.clamp(min=self.noise**2).sqrt()], -1)[:, :, None]

    def _jitter(self, stream: Stream, numbers: Tensor, x: Tensor) -> Tensor:
        amplitude = self._hyperparameters(stream, numbers)[1]
        return _JITTER * amplitude.square() * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

    def _hyperparameters(self, stream: Stream, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Length scale, amplitude and period, each (tasks, 1, 1)."""
        low, high = self.ranges.to(numbers.device).unbind(-1)
        drawn = low + (high - low) * stream.uniform(numbers, 3, "function")
        scale, amplitude, period = drawn[:, :, None, None].unbind(1)
        return scale, amplitude, period
