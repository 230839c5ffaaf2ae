"""Soft k-means: prototypes refined by unlabelled examples (Ren et al. 2018)."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.learners.metric.comparison import Comparison, belongs, check_positive, class_means, squared_distances
from metaloop.problems.task_loss import without_absent_classes
from metaloop.types import Examples

_HIDDEN = 20  # hidden units of the network that sets the thresholds (section 3.1.3)
_WEIGHT_STD = 0.01  # of its weights at the start, as in the authors' code


class RefinedPrototypes(Comparison):
    """Class means over labelled and weighted unlabelled examples (Ren et al. 2018, equation 4, one refinement).

    Without unlabelled examples they are exactly the prototypes of Snell et al. 2017, up to the ``scale`` of the logits.

    Attributes:
        scale: factor of the negative squared distances, in the shares and in the queries' logits.
    """

    uses_unlabelled: ClassVar[bool] = True
    scale: ClassVar[float] = 1.0

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
            logits = without_absent_classes(-self.scale * distances, labels)
            shares = self.shares(distances, logits, unlabelled, real) * real[:, None]
            member = torch.cat([belongs(labels).to(support.dtype), shares.T], 1)
            total = member.sum(1, keepdim=True)
            means = member @ torch.cat([support, unlabelled]) / torch.where(total > 0, total, 1)
        return -self.scale * squared_distances(query, means)

    @abstractmethod
    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """Weight of each unlabelled example in each class's mean: (unlabelled, ways).

        Args:
            distances: (unlabelled, ways), squared distances to the means of the labelled examples.
            logits: (unlabelled, ways), negative scaled distances, in which absent classes get no probability.
            unlabelled: (unlabelled, features).
            real: (unlabelled,), 1 for real examples and 0 for padding.
        """


class SoftKMeans(RefinedPrototypes):
    """Soft k-means: a softmax divides every unlabelled example among the classes (equation 4)."""

    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """See :meth:`RefinedPrototypes.shares`."""
        return torch.softmax(logits, -1)


class SoftKMeansCluster(RefinedPrototypes):
    """Soft k-means with one more cluster for distractors, centred at the origin (equations 5 and 6).

    Exponents are halved, as in a normal distribution and in the authors' code; equation 6 has no half. Deviation: their code
    counts a query's probability of this cluster, too, in the query loss and as a wrong answer.

    Args:
        width: initial length scale of this cluster; those of the classes are 1. Learned.
    """

    scale: ClassVar[float] = 0.5

    def __init__(self, width: float = 100.0) -> None:
        super().__init__()
        self.log_width = nn.Parameter(torch.tensor(check_positive("width", width)).log())

    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """See :meth:`RefinedPrototypes.shares`."""
        squares = (unlabelled**2).sum(1, keepdim=True)
        other = -self.scale * squares * torch.exp(-2 * self.log_width) - self.log_width
        return torch.softmax(torch.cat([logits, other], -1), -1)[:, :-1]


class SoftKMeansMasked(RefinedPrototypes):
    """Soft k-means in which a class uses only examples nearer than a soft threshold (equations 7 to 9).

    A network sets the threshold from statistics of the distances to the class's mean: minimum, maximum, variance, skewness and
    kurtosis. As in the authors' code, threshold and slope are exponentials of its outputs, so that no class prefers far
    examples; both start near 1; and the gradient does not pass through the statistics.

    Args:
        differentiate_statistics: whether the gradient passes through the statistics, too.
        mask_power: power of the mask in the class's mean. 1 is equation 9; the authors' code multiplies by the mask twice.
    """

    def __init__(self, differentiate_statistics: bool = False, mask_power: float = 1.0) -> None:
        super().__init__()
        self.differentiate_statistics = differentiate_statistics
        self.mask_power = check_positive("mask_power", mask_power)
        self.network = nn.Sequential(nn.Linear(5, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 2))
        for name, value in self.network.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(value, std=_WEIGHT_STD)
            else:
                nn.init.zeros_(value)

    def shares(self, distances: Tensor, logits: Tensor, unlabelled: Tensor, real: Tensor) -> Tensor:
        """See :meth:`RefinedPrototypes.shares`."""
        # Without real examples the statistics are those of the padding, to avoid nan; no share counts then.
        counted = torch.where(real.any(), real, torch.ones_like(real))
        weights = counted[:, None] / counted.sum()
        relative = distances / ((weights * distances).sum(0) + 1e-8)
        statistics = _moments(relative if self.differentiate_statistics else relative.detach(), weights)
        threshold, slope = self.network(statistics).exp().unbind(-1)
        mask = torch.sigmoid(-slope * (relative - threshold))
        return torch.softmax(logits, -1) * mask**self.mask_power


def _moments(values: Tensor, weights: Tensor) -> Tensor:
    """Minimum, maximum, variance, skewness and excess kurtosis of columns (m, n), by weights (m, 1) of sum one: (n, 5)."""
    low = torch.where(weights > 0, values, torch.inf).amin(0)
    high = torch.where(weights > 0, values, -torch.inf).amax(0)
    deviations = values - (weights * values).sum(0)
    second, third, fourth = ((weights * deviations**power).sum(0) for power in (2, 3, 4))
    variance = second + 1e-8  # above 0, also for equal values
    return torch.stack([low, high, second, third / variance**1.5, fourth / variance**2 - 3], -1)
