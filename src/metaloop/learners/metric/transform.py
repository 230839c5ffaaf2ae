"""What is done to features before they are compared."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, distributed, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Embedding, unit


class Transform(nn.Module, ABC):
    """A map of each example's features. It may keep statistics of meta-training as buffers, but has no parameters.

    Attributes:
        observes: does it keep such statistics?
    """

    observes: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(examples, features) to the same shape."""

    @abstractmethod
    def observe(self, mean: Tensor) -> None:
        """Take note of the mean (features,) of a training meta-batch's features, before the transform.

        They are those of all examples in steps that classify, of the support sets alone in episodes.
        """


class Unchanged(Transform):
    """Features as they are."""

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        return features

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`."""


class Centred(Transform):
    """Features less the mean of meta-training's, then of length one: CL2N of SimpleShot (Wang et al. 2019, section 3).

    The authors take the mean over the training set after training. Here it is a running mean: of the features of the first
    ``1 / momentum`` outer steps, which from then on gives way to newer ones, as the embedding moves.

    Args:
        embedding: what the model answers.
        normalise: whether features come to length one; without, this is the paper's CN.
        momentum: weight of an outer step's mean.
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
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # outer steps

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        centred = features - self.mean
        return unit(centred) if self.normalise else centred

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`; ranks of a distributed run agree on the mean of theirs."""
        if distributed.is_available() and distributed.is_initialized():
            mean = mean.clone()
            distributed.all_reduce(mean)
            mean /= distributed.get_world_size()
        self.seen += 1
        weight = (1 / self.seen.to(self.mean.dtype)).clamp(min=self.momentum)  # a tensor: the host need not wait for it
        self.mean.lerp_(mean.to(self.mean.dtype), weight)


class UnitLength(Transform):
    """Features of length one: L2N of SimpleShot (Wang et al. 2019, section 3)."""

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        return unit(features)

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`."""
