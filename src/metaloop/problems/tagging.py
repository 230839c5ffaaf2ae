"""Tagging: predict which parts of a sequence are entities, and of which type."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metaloop.metrics import entities
from metaloop.metrics.interval import Interval, mean_interval
from metaloop.problems.classification import (
    CALIBRATION_ERROR,
    CROSS_ENTROPY,
    F1,
    RECALL,
    REJECTION,
    REJECTION_BY_LOGIT,
    Classification,
)
from metaloop.problems.metric import ENTITY_F1, Metric
from metaloop.problems.problem import Scores
from metaloop.types import Examples

POOLED_F1 = Metric.percentage("pooled_f1", "entity F1 over all episodes")
WORD_ACCURACY = Metric.percentage("accuracy", "word accuracy")


class Tagging(Classification):
    """Classification of the parts of sequences, scored by the F1 of whole entities. Class 0 means "part of no entity".

    ``accuracy`` counts single parts. ``pooled_f1`` is the F1 over the entities of all episodes, from the columns
    :data:`metaloop.metrics.entities.COUNTS`.
    """

    name = "tagging"
    metric = ENTITY_F1
    statistics = (CROSS_ENTROPY, WORD_ACCURACY, RECALL, F1, REJECTION, REJECTION_BY_LOGIT, CALIBRATION_ERROR, POOLED_F1)

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; ``score`` is the micro F1 of entities, in [0, 1].

        Raises:
            ValueError: the examples are not parts of sequences.
        """
        if query.sequence is None:
            raise ValueError("tagging needs Examples.sequence, the number of the sequence that each example is a part of")
        parts = super().scores(outputs, query)
        counts = entities.counts(outputs.argmax(-1), query.y, query.sequence, query.mask)
        named = dict(zip(entities.COUNTS, counts.T, strict=True))
        return parts | {"score": entities.f1(counts), WORD_ACCURACY.name: parts["score"]} | named

    def pooled(self, scores: Mapping[str, Tensor]) -> dict[str, Interval]:
        """F1 over the entities of all episodes, and the pooled statistics of classification."""
        counts = torch.stack([scores[name] for name in entities.COUNTS], 1)
        return super().pooled(scores) | {POOLED_F1.name: mean_interval(entities.pooled_f1(counts).double().numpy())}
