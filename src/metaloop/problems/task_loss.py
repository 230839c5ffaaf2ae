"""The loss of one task, of classes and of values, with masks."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.errors import UserError
from metaloop.metrics.regression import log_likelihood
from metaloop.types import Examples

ABSENT = -1e4  # beside a row of logits, how far below them one wins nowhere; -inf would make padded rows nan


class TaskLoss(ABC):
    """A loss over one task's examples.

    Attributes:
        of_classes: whether outputs are logits of a task's classes and targets their numbers; otherwise both are values.
    """

    of_classes: ClassVar[bool] = False

    @abstractmethod
    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """(examples,): the losses of ``outputs`` (examples, *output) against ``examples.y``."""

    def __call__(self, outputs: Tensor, examples: Examples) -> Tensor:
        """Scalar: the mean over the examples that are real."""
        return mean_over_real(self.each(outputs, examples), examples.mask)


def mean_over_real(losses: Tensor, mask: Tensor | None) -> Tensor:
    """Scalar: the mean of ``losses`` (examples,) where ``mask`` says that an example is real; None says so of all."""
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
    """Minus the log density, in nats, of targets under normal distributions (examples, *target, 2), mean over target entries.

    The last axis holds means and standard deviations.

    Raises:
        UserError: it is not as many of them as there are targets.
    """

    def each(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.each`."""
        _check_shape(outputs, (*examples.y.shape, 2))
        return -log_likelihood(outputs, examples.y).flatten(1).mean(1)


def _check_shape(outputs: Tensor, wanted: tuple[int, ...]) -> None:
    """Shapes that differ would be broadcast: every answer to every target."""
    if outputs.shape != wanted:
        raise UserError(
            f"the model's answers have the shape {tuple(outputs.shape)} where the data set's targets need {tuple(wanted)}; a "
            f"data set gives y as (examples, *target), one number as (examples, 1), and dataset and model agree on its size"
        )


def without_absent_classes(logits: Tensor, support: Examples) -> Tensor:
    """Logits (examples, ways) in which classes without a real support example cannot win.

    A head may have been made for more ways than the task has; the rest is cut off. Values of a regression pass unchanged.
    """
    if not support.ways:
        return logits
    logits = logits[..., : support.ways]
    if support.mask is None:
        return logits
    ways = torch.arange(logits.shape[-1], device=logits.device)
    return restricted(logits, ((support.y[:, None] == ways) & support.mask[:, None]).any(0))


def restricted(logits: Tensor, present: Tensor) -> Tensor:
    """Logits (..., n) in which entries that are not ``present`` (broadcast to them) win nowhere, however low the others are.

    Their share of a softmax over the last axis is zero, and so is their derivative. Rows without any are even.
    """
    lowest = torch.where(present, logits.detach(), 0.0).amin(-1, keepdim=True)  # at most zero
    # Twice: beside huge logits a constant would be rounded away.
    aside = (2 * lowest + ABSENT).clamp(min=torch.finfo(logits.dtype).min)
    return torch.where(present, logits, aside)
