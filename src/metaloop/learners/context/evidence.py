"""What classical detectors say about the rows of a task, as further inputs of a reader of whole tables."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.learners.context.ranks import mid_ranks

_NEIGHBOURS = (1, 2, 4, 8, 16, 32)
_LOCAL = 8  # neighbours of the local outlier factor
_RIDGES = (0.01, 0.3)  # added to the covariance of standardized columns
_NEAREST = 0.01  # added to a distance before its logarithm, for rows that repeat
_FARTHEST = 20.0  # no distance is larger, since columns are clipped at ten standard deviations
_CLIP = 10.0


class Evidence(nn.Module, ABC):
    """Numbers about each row of a task that a reader adds to the row's tokens; without parameters.

    Attributes:
        answers: how many numbers a row has for each entry of an encoded label. They come first, the ones of an entry side by
            side, and a reader adds them to its answers, too.
    """

    answers: ClassVar[int] = 0

    @abstractmethod
    def size(self, labels: int) -> int:
        """How many numbers a row has, when an encoded label has ``labels`` entries."""

    @abstractmethod
    def forward(self, values: Tensor, known: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        """Compute the numbers, (rows, size).

        Args:
            values: (rows, columns) of support rows and queries, zero where not known.
            known: (rows, columns), ones and zeros.
            labels: (context, labels) encoded labels of the support rows.
            real: (context,) bool, which support rows are real.
        """


class Detectors(Evidence):
    """Scores of classical anomaly detectors, in units of the scores that the support's inliers get without themselves.

    Logarithms of distances to the nearest inliers (kNN) and their ratio to those of the neighbours (LOF, Breunig et al. 2000),
    Mahalanobis distances, mean and largest tail of the columns (ECOD, Li et al. 2022). With labelled anomalies also the
    distance to the nearest one, that less the distance to the nearest inlier, and three linear or quadratic scores in the
    direction of the anomalies' mean. Each is given in standard deviations and as its rank. Labels are 1 for anomalies.
    """

    unlabelled = len(_NEIGHBOURS) + 1 + len(_RIDGES) + 3

    def size(self, labels: int) -> int:
        """See :meth:`Evidence.size`."""
        return 2 * (self.unlabelled + 5) + 2

    def forward(self, values: Tensor, known: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        """See :meth:`Evidence.forward`."""
        anomalous = real & (labels[:, 0] > 0.5)
        inlier = real & ~anomalous
        distance = _distances(values, known, len(real))
        neighbours, local = _neighbours(distance, inlier)
        columns = [neighbours, local, *_spreads(values, known, inlier)]
        columns.append(_towards(values, distance, neighbours[:, :1], inlier, anomalous))
        scores = torch.cat(columns, 1)
        standard, rank = _in_units(scores, inlier)
        sizes = torch.stack([inlier.sum(), anomalous.sum()]).to(values.dtype).log1p() / 5
        evidence = torch.cat([standard, rank], 1)
        some = torch.ones_like(scores, dtype=torch.bool)
        some[:, self.unlabelled :] = anomalous.any()
        return torch.cat([evidence * some.repeat(1, 2), sizes.expand(len(values), 2)], 1)


def _distances(values: Tensor, known: Tensor, context: int) -> Tensor:
    """Root mean square differences over the columns that both rows know (rows, context); infinite to itself."""
    shared = known @ known[:context].T
    squares = values.square() @ known[:context].T + known @ values[:context].square().T - 2 * values @ values[:context].T
    distance = (squares.clamp(min=0) / shared.clamp(min=1)).sqrt().clamp(max=_FARTHEST)
    rows = torch.arange(len(values), device=values.device)[:, None]
    return distance.masked_fill(rows == torch.arange(context, device=values.device), torch.inf)


def _neighbours(distance: Tensor, inlier: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the distances to the nearest inliers (rows, neighbours), and of the local outlier factor (rows, 1)."""
    context = distance.shape[1]
    nearest, places = distance.masked_fill(~inlier, torch.inf).sort(1)
    count = nearest.isfinite().sum(1, keepdim=True)
    wanted = torch.tensor(_NEIGHBOURS, device=distance.device).clamp(max=context).expand(len(distance), -1)
    logs = (nearest.gather(1, (torch.minimum(wanted, count) - 1).clamp(min=0)).clamp(max=_FARTHEST) + _NEAREST).log()
    most = min(_LOCAL, context)
    density = logs[:context, _NEIGHBOURS.index(_LOCAL)]
    used = nearest[:, :most].isfinite()
    around = (density[places[:, :most]] * used).sum(1) / used.sum(1).clamp(min=1)
    return logs, (logs[:, _NEIGHBOURS.index(_LOCAL)] - around)[:, None]


def _spreads(values: Tensor, known: Tensor, inlier: Tensor) -> list[Tensor]:
    """Logarithms of Mahalanobis distances with several ridges, of the mean square, and tails of the columns; (rows, n) each."""
    context, count = len(inlier), inlier.sum()
    weight = inlier.to(values.dtype)[:, None]
    scatter = (values[:context] * weight).T @ values[:context] / (count - 1).clamp(min=1)
    identity = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    member = torch.zeros(len(values), 1, dtype=values.dtype, device=values.device)
    member[:context] = weight
    columns = known.sum(1, keepdim=True).clamp(min=1)
    scores = []
    for ridge in _RIDGES:
        squares = (torch.linalg.solve(scatter + ridge * identity, values.T).T * values).sum(1, keepdim=True).clamp(min=0)
        # Without the row itself the distance of a support row would be larger, by its leverage.
        scores.append((squares / (1 - member * squares / count.clamp(min=1)).clamp(min=0.05) / columns + 1e-3).log())
    scores.append((values.square().sum(1, keepdim=True) / columns + 1e-3).log())
    tails = -(1 - mid_ranks(values, values[:context], known[:context] * weight).abs() + 1 / (count + 1)).log() * known
    return [*scores, tails.sum(1, keepdim=True) / columns, tails.amax(1, keepdim=True)]


def _towards(values: Tensor, distance: Tensor, nearest: Tensor, inlier: Tensor, anomalous: Tensor) -> Tensor:
    """Scores by the labelled anomalies, (rows, 5); of no meaning without any."""
    context = len(anomalous)
    to_anomaly = (distance.masked_fill(~anomalous, torch.inf).amin(1, keepdim=True).clamp(max=_FARTHEST) + _NEAREST).log()
    weight = anomalous.to(values.dtype)
    mean = (values[:context] * weight[:, None]).sum(0) / weight.sum().clamp(min=1)
    square = (values[:context].square() * weight[:, None]).sum(0) / weight.sum().clamp(min=1)
    inliers = values[:context] * inlier[:, None]
    scatter = inliers.T @ inliers / (inlier.sum() - 1).clamp(min=1)
    ridge = 0.3 * torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    discriminant = torch.linalg.solve(scatter + ridge, mean)
    deviance = (values.square() @ square / square.sum().clamp(min=1e-3) + 1e-3).log()
    linear = [values @ mean, values @ discriminant, deviance]
    return torch.cat([-to_anomaly, nearest - to_anomaly, *(each[:, None] for each in linear)], 1)


def _in_units(scores: Tensor, inlier: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (rows, n) in standard deviations of the support's inliers, and their ranks among them."""
    context = len(inlier)
    weight = inlier.to(scores.dtype)[:, None]
    count = weight.sum().clamp(min=1)
    mean = (scores[:context] * weight).sum(0) / count
    spread = ((scores[:context] - mean).square() * weight).sum(0).div(count).sqrt().clamp(min=1e-3)
    standard = ((scores - mean) / spread).clamp(-_CLIP, _CLIP)
    return standard, mid_ranks(scores, scores[:context], weight.expand(context, scores.shape[1]))
