"""Losses of one task, for classes and for values, with masks."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.errors import UserError
from metaloop.metrics.regression import log_likelihood
from metaloop.types import Examples

ABSENT = -1e4  # distance below a row's logits at which a class cannot win; -inf would make padded rows nan


class TaskLoss(ABC):
    """Loss over one task's examples.

    Attributes:
        of_classes: Whether outputs are logits of classes and targets are class numbers; otherwise both are values.
        of_anomalies: Whether outputs are anomaly scores and targets are 1 for anomalies, 0 for inliers.
    """

    of_classes: ClassVar[bool] = False
    of_anomalies: ClassVar[bool] = False

    @abstractmethod
    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """Compute the loss of each example (examples,) from ``outputs`` (examples, *output) and ``examples.y``."""

    def __call__(self, outputs: Tensor, examples: Examples) -> Tensor:
        """Compute the mean loss over the real examples, a scalar."""
        return mean_over_real(self.each(outputs, examples), examples.mask)


def mean_over_real(losses: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the mean of ``losses`` (examples,) over the real examples of ``mask`` (examples,); None if all are real."""
    return losses.mean() if mask is None else (losses * mask).sum() / mask.sum().clamp(min=1)


class CrossEntropy(TaskLoss):
    """Softmax cross-entropy of logits (examples, ways) against class numbers, in nats."""

    of_classes = True

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`."""
        return F.cross_entropy(outputs, examples.y, reduction="none")


class MeanSquaredError(TaskLoss):
    """Mean squared error of values (examples, *target), over examples and target entries.

    Raises:
        UserError: values and targets differ in shape.
    """

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`."""
        _check_shape(outputs, examples.y.shape)
        return ((outputs - examples.y) ** 2).flatten(1).mean(1)


class NegativeLogLikelihood(TaskLoss):
    """Negative log density, in nats, of targets under normal distributions, averaged over target entries.

    Outputs are (examples, *target, 2), with means and standard deviations on the last axis.

    Raises:
        UserError: the shapes of outputs and targets do not match.
    """

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`."""
        _check_shape(outputs, (*examples.y.shape, 2))
        return -log_likelihood(outputs, examples.y).flatten(1).mean(1)


class BalancedLogistic(TaskLoss):
    """Logistic loss, in nats, of anomaly scores (examples, 1) against 0 and 1, where zeros and ones weigh alike together.

    So the rarer kind is not lost among many of the other. If all examples are of one kind, it is their mean.

    Raises:
        UserError: scores and targets differ in shape.
    """

    of_anomalies = True

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`."""
        _check_shape(outputs, examples.y.shape)
        y = examples.y.flatten(1).mean(1).to(outputs.dtype)
        real = torch.ones_like(y) if examples.mask is None else examples.mask.to(y.dtype)
        count, ones = real.sum().clamp(min=1), (real * y).sum()
        zeros = count - ones
        both = (ones > 0) & (zeros > 0)
        weight = torch.where(both, count / (2 * torch.where(y > 0.5, ones, zeros).clamp(min=1)), 1.0)
        return weight * F.binary_cross_entropy_with_logits(outputs.flatten(1).mean(1), y, reduction="none")


class DeepSAD(TaskLoss):
    """Loss of Deep SAD (Ruff et al. 2020, equation 7): squared distances of inliers, inverse ones of labelled anomalies.

    Outputs (examples, 1) are logarithms of squared distances to a centre (:class:`metaloop.models.distance_head.DistanceHead`);
    the paper's weight decay is left to the rule. Values are those of the paper divided by one factor; a logarithm is cut at 10
    on either side, where an inverse distance would be all of the gradient.

    Args:
        eta: weight of a labelled anomaly, above 0.
    """

    def __init__(self, eta: float = 1.0) -> None:
        if not eta > 0:
            raise UserError(f"algorithm.support_loss.of.eta={eta}: above 0")
        self.eta = eta

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`."""
        _check_shape(outputs, examples.y.shape)
        y = examples.y.flatten(1).mean(1).to(outputs.dtype)
        logarithm = outputs.flatten(1).mean(1).clamp(-10.0, 10.0)
        return (1 + (self.eta - 1) * y) * ((1 - 2 * y) * logarithm).exp()


def _check_shape(outputs: Tensor, expected: tuple[int, ...]) -> None:
    """Refuse different shapes, which would be broadcast so that every output is compared with every target."""
    if outputs.shape != expected:
        raise UserError(
            f"the model's outputs have the shape {tuple(outputs.shape)}, but the data set's targets need {tuple(expected)}; a "
            f"data set gives y as (examples, *target), for one number (examples, 1), and the model must have as many outputs"
        )


def without_absent_classes(logits: Tensor, support: Examples) -> Tensor:
    """Lower the logits (examples, ways) of classes without a real support example, so that they cannot win.

    Logits of a head with more ways than the task are cut off. Values of a regression pass unchanged.
    """
    if not support.ways:
        return logits
    logits = logits[..., : support.ways]
    if support.mask is None:
        return logits
    ways = torch.arange(logits.shape[-1], device=logits.device)
    return restricted(logits, ((support.y[:, None] == ways) & support.mask[:, None]).any(0))


def restricted(logits: Tensor, present: Tensor) -> Tensor:
    """Lower the logits (..., n) of entries that are not ``present`` (broadcast to them), so that they cannot win.

    Their probability in a softmax over the last axis is zero, and so is its derivative. A row without any present entry
    becomes uniform.
    """
    lowest = torch.where(present, logits.detach(), 0.0).amin(-1, keepdim=True)  # at most zero
    # Twice the lowest, because beside huge logits a constant would be rounded away.
    absent = (2 * lowest + ABSENT).clamp(min=torch.finfo(logits.dtype).min)
    return torch.where(present, logits, absent)
