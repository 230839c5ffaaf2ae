"""Transforms of features before they are compared."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, distributed, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Embedding, unit


class Transform(nn.Module, ABC):
    """A map of each example's features. It may keep statistics of meta-training as buffers, and has no parameters.

    Attributes:
        observes: whether it keeps such statistics.
    """

    observes: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map features (examples, features) to the same shape."""

    @abstractmethod
    def observe(self, mean: Tensor) -> None:
        """Update the statistics by the mean (features,) of a training meta-batch's features before the transform.

        The mean is over all examples in outer steps that classify, and over the support sets in episodes.
        """


class Unchanged(Transform):
    """The identity."""

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        return features

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`."""


class Centred(Transform):
    """Features minus their meta-training mean, scaled to length one: CL2N of SimpleShot (Wang et al. 2019, section 3).

    The authors compute the mean over the training set after training. Here it is a running mean, since the embedding changes: a
    plain average over the first ``1 / momentum`` outer steps, and an exponential moving average from then on.

    Args:
        embedding: size of the model's output.
        normalise: whether to scale features to length one; False for the paper's CN.
        momentum: weight of an outer step's mean in the moving average.
    """

    observes: ClassVar[bool] = True
    mean: Tensor
    seen: Tensor

    def __init__(self, embedding: Embedding, normalise: bool = True, momentum: float = 0.01) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise UserError(f"algorithm.transform.momentum={momentum}: above 0 and at most 1")
        self.normalise = normalise
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(embedding.width()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # number of outer steps

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        centered = features - self.mean
        return unit(centered) if self.normalise else centered

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`; the mean is averaged over the ranks of a distributed run."""
        if distributed.is_available() and distributed.is_initialized():
            mean = mean.clone()
            distributed.all_reduce(mean)
            mean /= distributed.get_world_size()
        self.seen += 1
        # A tensor, so that the host does not wait for the device.
        weight = (1 / self.seen.to(self.mean.dtype)).clamp(min=self.momentum)
        self.mean.lerp_(mean.to(self.mean.dtype), weight)


class UnitLength(Transform):
    """Features scaled to length one: L2N of SimpleShot (Wang et al. 2019, section 3)."""

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        return unit(features)

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`."""
