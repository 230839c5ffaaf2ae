"""Prototypes refined by unlabelled examples: soft k-means of Ren et al. 2018."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.learners.metric.comparison import Comparison, belongs, check_positive, class_means, squared_distances
from metaloop.problems.task_loss import without_absent_classes
from metaloop.types import Examples

_HIDDEN = 20  # units of the network that reads a cluster's distances (section 3.1.3)


class RefinedPrototypes(Comparison):
    """Class means over labelled examples and shares of the unlabelled ones (Ren et al. 2018, equation 5, one refinement).

    Without unlabelled examples they are the prototypes of Snell et al. 2017, to the last digit.
    """

    uses_unlabelled: ClassVar[bool] = True

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        means = class_means(support, labels)
        if unlabelled is not None:
            real = unlabelled.new_ones(len(unlabelled))
            if labels.unlabelled_mask is not None:
                real = labels.unlabelled_mask.to(unlabelled.dtype)
            distances = squared_distances(unlabelled, means)
            shares = self.shares(distances, without_absent_classes(-distances, labels), unlabelled, real) * real[:, None]
            member = torch.cat([belongs(labels).to(support.dtype), shares.T], 1)
            total = member.sum(1, keepdim=True)
            means = member @ torch.cat([support, unlabelled]) / torch.where(total > 0, total, 1)
        return -squared_distances(query, means)

    @abstractmethod
    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """(unlabelled, ways): how much each unlabelled example counts in each class's mean.

        Args:
            distances: (unlabelled, ways) squared, to the means of the labelled examples.
            logits: (unlabelled, ways) minus ``distances``, in which absent classes cannot win.
            unlabelled: (unlabelled, features).
            real: (unlabelled,) of 0 and 1.
        """


class SoftKMeans(RefinedPrototypes):
    """Every unlabelled example is shared out among the classes (equation 4)."""

    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """See :meth:`RefinedPrototypes.shares`."""
        return torch.softmax(logits, -1)


class SoftKMeansCluster(RefinedPrototypes):
    """One more cluster, around the origin and of learned width, takes shares of the distractors (equations 6 and 7).

    Args:
        width: where the cluster's length scale starts; the classes' are 1.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.log_width = nn.Parameter(torch.tensor(check_positive("width", width)).log())

    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """See :meth:`RefinedPrototypes.shares`."""
        other = -(unlabelled**2).sum(1, keepdim=True) * torch.exp(-2 * self.log_width) - self.log_width
        return torch.softmax(torch.cat([logits, other], -1), -1)[:, :-1]


class SoftKMeansMasked(RefinedPrototypes):
    """A class takes its shares only of examples nearer than a threshold, soft, that a network sets (equations 8 to 10).

    The network reads how the distances from the class's mean are distributed: least, largest, variance, skewness, kurtosis.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(5, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 2))

    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """See :meth:`RefinedPrototypes.shares`."""
        # Of nothing there are no statistics; no share counts then.
        counted = torch.where(real.any(), real, torch.ones_like(real))
        weights = counted[:, None] / counted.sum()
        relative = distances / ((weights * distances).sum(0) + 1e-8)
        threshold, slope = self.network(_moments(relative, weights)).unbind(-1)
        return torch.softmax(logits, -1) * torch.sigmoid(-slope * (relative - threshold))


def _moments(values: Tensor, weights: Tensor) -> Tensor:
    """(n, 5): least, largest, variance, skewness and excess kurtosis of columns (m, n) under weights (m, 1) that sum to one."""
    low = torch.where(weights > 0, values, torch.inf).amin(0)
    high = torch.where(weights > 0, values, -torch.inf).amax(0)
    away = values - (weights * values).sum(0)
    second, third, fourth = ((weights * away**power).sum(0) for power in (2, 3, 4))
    steady = second + 1e-8
    return torch.stack([low, high, second, third / steady**1.5, fourth / steady**2 - 3], -1)
