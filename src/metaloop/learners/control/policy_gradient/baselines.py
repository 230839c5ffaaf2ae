"""Baselines: predictions of the reward that is left, fitted to the episodes of each task."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

_FAR = 10.0  # observations beyond are clipped
_RIDGE = 1e-5


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
