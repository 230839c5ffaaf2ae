"""The loss of one task, for classification and for regression, with masks."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.types import Examples

_ABSENT = -1e4  # a logit that wins nowhere; -inf would make padded rows nan


class TaskLoss(ABC):
    """A mean loss over one task's examples."""

    @abstractmethod
    def __call__(self, outputs: Tensor, examples: Examples) -> Tensor:
        """Scalar: the mean over the examples that are real of ``outputs`` (examples, *output) against ``examples.y``."""


def _mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    return losses.mean() if mask is None else (losses * mask).sum() / mask.sum().clamp(min=1)


class CrossEntropy(TaskLoss):
    """Softmax cross-entropy of logits (examples, ways) against class numbers, in nats."""

    def __call__(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.__call__`."""
        return _mean(F.cross_entropy(outputs, examples.y, reduction="none"), examples.mask)


class MeanSquaredError(TaskLoss):
    """Mean squared error of values (examples, *target), over examples and target entries."""

    def __call__(self, outputs: Tensor, examples: Examples) -> Tensor:
        """See :meth:`TaskLoss.__call__`."""
        return _mean(((outputs - examples.y) ** 2).flatten(1).mean(1), examples.mask)


def loss_for(kind: str) -> TaskLoss:
    """The loss of "classification" or "regression" tasks."""
    return {"classification": CrossEntropy, "regression": MeanSquaredError}[kind]()


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
    present = ((support.y[:, None] == ways) & support.mask[:, None]).any(0)
    return torch.where(present, logits, _ABSENT)
