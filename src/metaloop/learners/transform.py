"""What is done to features before they are compared."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """A map of each example's features. It may keep statistics of meta-training as buffers, but has no parameters."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(examples, features) to the same shape."""

    @abstractmethod
    def observe(self, mean: Tensor) -> None:
        """Take note of the mean (features,) of a training meta-batch's features, before the transform."""


class Unchanged(Transform):
    """Features as they are."""

    def forward(self, features: Tensor) -> Tensor:
        """See :meth:`Transform.forward`."""
        return features

    def observe(self, mean: Tensor) -> None:
        """See :meth:`Transform.observe`."""
