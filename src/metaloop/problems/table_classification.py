"""Classification of the rows of whole tables, scored by the area under the ROC curve."""

import torch.nn.functional as F
from torch import Tensor

from metaloop.problems.classification import Classification
from metaloop.problems.metric import Metric
from metaloop.problems.problem import Scores
from metaloop.types import Examples, Span

ROC_AUC = Metric("roc_auc", "area under the ROC curve", digits=3, bounds=(0.0, 1.0))
ACCURACY = Metric.percentage("accuracy", "accuracy")


class TableClassification(Classification):
    """Classification whose score is the mean area under the ROC curve of each class against all others.

    Accuracy says little about tables in which one class is frequent; it is one of the further statistics.
    """

    name = "table_classification"
    metric = ROC_AUC
    statistics = (ACCURACY, *Classification.statistics)

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; ``score`` is in [0, 1]."""
        from metaloop.metrics.classification import area_under_roc_of_classes  # torchmetrics: slow to import

        scores = super().scores(outputs, query)
        area = area_under_roc_of_classes(F.softmax(outputs.float(), -1), query.y, query.mask)
        return scores | {"score": area, "accuracy": scores["score"]}

    def setting(self, ways: Span, shots: Span) -> str:
        """The kind of episode, in words."""
        return "whole tables"
