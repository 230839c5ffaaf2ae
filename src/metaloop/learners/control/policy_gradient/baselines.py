"""Baselines: predictions of the reward that is left, fitted to the episodes of each task."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.noise import normal

_FAR = 10.0  # observations beyond are clipped
_RIDGE = 1e-5
_SMALLEST = 1e-8  # added to deviations
_BETAS = (0.9, 0.999)  # of Adam


class ReturnBaseline(ABC):
    """A prediction of the (discounted) reward that is left, which is subtracted to lower the variance of policy gradients."""

    @abstractmethod
    def values(self, observations: Tensor, returns: Tensor, real: Tensor) -> Tensor:
        """Fit each task's episodes and predict them.

        Args:
            observations: (tasks, episodes, steps, *input), before each step.
            returns: (tasks, episodes, steps), reward from each step on.
            real: (tasks, episodes, steps) bool, False after the end of an episode.

        Returns:
            (tasks, episodes, steps).
        """


class NoBaseline(ReturnBaseline):
    """Nothing is subtracted."""

    def values(self, observations: Tensor, returns: Tensor, real: Tensor) -> Tensor:
        """See :meth:`ReturnBaseline.values`; zeros."""
        return torch.zeros_like(returns)


class LinearFeatures(ReturnBaseline):
    """Linear least squares on the observation, its square, three powers of time and 1 (Duan et al. 2016, rllab).

    It is fitted to the episodes that it then predicts, as in the code of Finn et al. 2017 and of Rothfuss et al. 2019, so that
    advantages are a little smaller than they should be. Computed in float64.
    """

    def values(self, observations: Tensor, returns: Tensor, real: Tensor) -> Tensor:
        """See :meth:`ReturnBaseline.values`."""
        x = self._features(observations).flatten(1, 2)
        seen = x * real.flatten(1)[..., None]
        products = seen.mT @ x + _RIDGE * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        weights = torch.linalg.solve(products, seen.mT @ returns.double().flatten(1)[..., None])
        values: Tensor = (x @ weights)[..., 0].view(returns.shape)
        return values.to(returns)

    @staticmethod
    def _features(observations: Tensor) -> Tensor:
        """(tasks, episodes, steps, features) in float64."""
        seen = observations.flatten(3).double().clamp(-_FAR, _FAR)
        time = torch.arange(seen.shape[2], device=seen.device).double() / 100
        powers = torch.stack([time, time**2, time**3, torch.ones_like(time)], -1)
        return torch.cat([seen, seen**2, powers.expand(*seen.shape[:2], *powers.shape)], -1)


class NeuralBaseline(ReturnBaseline):
    """A network of one hidden tanh layer, of observation and time, fitted to the episodes of each task.

    Inputs and returns of a task are shifted and scaled to mean 0 and deviation 1. The mean squared error over the real steps is
    descended by Adam (Kingma and Ba 2015) with full batches. Every task begins with the same weights, a fixed draw, so that the
    values are a function of its episodes alone. As the linear one, it predicts the episodes to which it was fitted. Computed in
    float64.

    Args:
        hidden: units.
        steps: steps of Adam.
        rate: their learning rate.
    """

    def __init__(self, hidden: int, steps: int, rate: float) -> None:
        for key, value, least in (("hidden", hidden, 1), ("steps", steps, 1)):
            if value < least:
                raise UserError(f"algorithm.baseline.{key}={value}: at least {least}")
        if not rate > 0:
            raise UserError(f"algorithm.baseline.rate={rate}: above 0")
        self.hidden = hidden
        self.steps = steps
        self.rate = rate

    def values(self, observations: Tensor, returns: Tensor, real: Tensor) -> Tensor:
        """See :meth:`ReturnBaseline.values`."""
        kept = real.flatten(1)[..., None].double()
        x, _, _ = _standardized(self._inputs(observations), kept)
        y, mean, deviation = _standardized(returns.double().flatten(1)[..., None], kept)
        share = kept / kept.sum(1, keepdim=True)
        weights = self.start(len(x), x.shape[-1], x.device)
        moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
        for step in range(1, self.steps + 1):
            slopes = self._slopes(weights, x, y, share)
            for weight, slope, (first, second) in zip(weights, slopes, moments, strict=True):
                first.mul_(_BETAS[0]).add_((1 - _BETAS[0]) * slope)
                second.mul_(_BETAS[1]).add_((1 - _BETAS[1]) * slope**2)
                size = (second / (1 - _BETAS[1] ** step)).sqrt() + _SMALLEST
                weight.sub_(self.rate * first / (1 - _BETAS[0] ** step) / size)
        into, bias, out, level = weights
        values: Tensor = ((x @ into + bias).tanh() @ out + level) * deviation + mean
        return values[..., 0].view(returns.shape).to(returns)

    def start(self, tasks: int, inputs: int, device: torch.device) -> list[Tensor]:
        """Weights before the fit, (tasks, ...) each: inputs to hidden units, their biases, the output's weights and bias."""
        drawn = normal(torch.zeros((), dtype=torch.int64, device=device), 0, (inputs + 1, self.hidden), torch.float64)
        into, out = drawn[:-1] / inputs**0.5, drawn[-1, :, None] / self.hidden**0.5
        zeros = drawn.new_zeros(1, self.hidden), drawn.new_zeros(1, 1)
        return [value.repeat(tasks, 1, 1) for value in (into, zeros[0], out, zeros[1])]

    @staticmethod
    def _slopes(weights: list[Tensor], x: Tensor, y: Tensor, share: Tensor) -> list[Tensor]:
        """Gradients of half the mean squared error, by hand: it is the same in a graph and without one."""
        into, bias, out, level = weights
        units = (x @ into + bias).tanh()
        error = (units @ out + level - y) * share
        back = (error @ out.mT) * (1 - units**2)
        return [x.mT @ back, back.sum(1, keepdim=True), units.mT @ error, error.sum(1, keepdim=True)]

    @staticmethod
    def _inputs(observations: Tensor) -> Tensor:
        """Observations and the time (tasks, episodes * steps, inputs) in float64."""
        seen = observations.flatten(3).double().clamp(-_FAR, _FAR)
        time = torch.arange(seen.shape[2], device=seen.device).double() / seen.shape[2]
        return torch.cat([seen, time[:, None].expand(*seen.shape[:2], -1, 1)], -1).flatten(1, 2)


def _standardized(values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shift and scale (tasks, examples, n) by mean and deviation (tasks, 1, n) of those that are kept; return all three."""
    count = kept.sum(1, keepdim=True)
    mean = (values * kept).sum(1, keepdim=True) / count
    deviation = (((values - mean) ** 2 * kept).sum(1, keepdim=True) / count).sqrt() + _SMALLEST
    return (values - mean) / deviation, mean, deviation
