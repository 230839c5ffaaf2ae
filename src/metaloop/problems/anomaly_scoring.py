"""Anomaly scoring: give each query a score, higher for anomalies, from inliers and a few labelled anomalies or none."""

import torch
from torch import Tensor

from metaloop.metrics.detection import average_precision, recall_at_alarms
from metaloop.problems.baselines import nearest_inlier
from metaloop.problems.metric import Metric
from metaloop.problems.problem import Baseline, Problem, Scores, span_text
from metaloop.problems.task_loss import BalancedLogistic
from metaloop.types import Examples, Span

AUROC = Metric("auroc", "area under the ROC curve of anomalies (AUROC)", digits=4, bounds=(0.0, 1.0))
AVERAGE_PRECISION = Metric("average_precision", "average precision", digits=4, bounds=(0.0, 1.0))
RATES = {f"recall_at_{percent}": percent / 100 for percent in (1, 2, 5, 10, 20, 50)}  # share of alarms by column
RECALL = Metric.percentage("recall_at_1", "recall at 1 % alarms")
LOSS = Metric("loss", "balanced logistic loss", unit="nats", higher_is_better=False, bounds=(0.0, None))


class AnomalyScoring(Problem):
    """Ranking of queries by how anomalous they are.

    Targets are values (1,): 1 for an anomaly, 0 for an inlier. In a support set 0 means that a row is taken for an inlier, also
    one that is not labelled. Outputs are anomaly scores (1,), logits of an anomaly where both kinds are equally frequent. There
    are no classes, because a support set of inliers alone says something about anomalies, too.

    The score of an episode is its area under the ROC curve. Further statistics are the average precision and the recall at
    1 % alarms (:mod:`metaloop.metrics.detection`); the recalls at other rates are columns of ``episodes.csv``.
    """

    name = "anomaly_scoring"
    metric = AUROC
    loss = BalancedLogistic()
    statistics = (AVERAGE_PRECISION, RECALL, LOSS)

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; an episode without queries of both kinds has the score 0.5."""
        real = torch.ones_like(query.y[..., 0], dtype=torch.bool) if query.mask is None else query.mask
        rows = [
            _statistics(scores[each].double(), y[each] > 0.5)
            for scores, y, each in zip(outputs[..., 0], query.y[..., 0], real, strict=True)
        ]
        columns = {name: torch.stack([row[name] for row in rows]).float() for name in rows[0]}
        return columns | {"loss": self.losses(outputs, query)}

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """Baseline that scores a query by its distance to the nearest support row that is no labelled anomaly."""
        return Baseline("distance to the nearest inlier", nearest_inlier)

    def setting(self, ways: Span, shots: Span) -> str:
        """Size of a support set in words."""
        return f"{span_text(shots)} inliers"


def _statistics(scores: Tensor, anomalous: Tensor) -> Scores:
    """The statistics of one episode, from the scores (queries,) of its real queries."""
    from metaloop.metrics.classification import area_under_roc  # torchmetrics: slow to import

    both = bool(anomalous.any()) and not bool(anomalous.all())
    area = area_under_roc(scores[anomalous][None], scores[~anomalous][None])[0] if both else scores.new_tensor(0.5)
    recalls = {name: recall_at_alarms(scores, anomalous, rate) for name, rate in RATES.items()}
    return {"score": area, AVERAGE_PRECISION.name: average_precision(scores, anomalous), **recalls}
