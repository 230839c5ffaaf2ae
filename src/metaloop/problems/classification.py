"""Classification: predict to which of the task's classes a query belongs."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.metrics.interval import LEVEL, Interval
from metaloop.problems.baselines import nearest_neighbour
from metaloop.problems.metric import ACCURACY, Metric
from metaloop.problems.problem import Answers, Baseline, Line, Problem, Scores, span_text
from metaloop.problems.task_loss import CrossEntropy
from metaloop.types import Examples, Span, Tasks

CROSS_ENTROPY = Metric("loss", "cross-entropy", unit="nats", higher_is_better=False, bounds=(0.0, None))
RECALL = Metric.percentage("recall", "macro recall")
F1 = Metric.percentage("f1", "macro F1")
CALIBRATION_ERROR = Metric.percentage("calibration_error", "calibration error (ECE)", higher_is_better=False)
_AUROC = "rejection of queries of no class, by {} (AUROC)"
REJECTION = Metric("rejection", _AUROC.format("probability"), digits=3, bounds=(0.0, 1.0))
REJECTION_BY_LOGIT = Metric("rejection_by_logit", _AUROC.format("logit"), digits=3, bounds=(0.0, 1.0))


class Classification(Problem):
    """Problem whose score is accuracy and whose loss is cross-entropy.

    Further statistics are macro recall, macro F1, and the calibration error over the queries of all episodes. If tasks have
    queries of no class, ``rejection`` and ``rejection_by_logit`` are the areas under the ROC curve of telling them from the
    others by the highest probability and by the highest logit (for prototypes, minus the smallest distance).

    Attributes:
        selects_by_loss: Whether the best checkpoint is that of the lowest loss, not that of the best score.
    """

    name = "classification"
    metric = ACCURACY
    loss = CrossEntropy()
    statistics: tuple[Metric, ...] = (CROSS_ENTROPY, RECALL, F1, REJECTION, REJECTION_BY_LOGIT, CALIBRATION_ERROR)
    selects_by_loss = False

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; ``score`` is in [0, 1]."""
        from metaloop.metrics.classification import episode_scores  # torchmetrics: slow to import

        return episode_scores(outputs, query.y, query.mask)

    def details(self, outputs: Tensor, query: Examples, outside: Tensor | None = None) -> Scores:
        """``confidence`` (tasks, queries, ways), ``label`` and ``real`` (tasks, queries), and the rejection scores (tasks,)."""
        real = torch.ones_like(query.y, dtype=torch.bool) if query.mask is None else query.mask
        details = {"confidence": F.softmax(outputs.float(), -1), "label": query.y, "real": real}
        return details if outside is None else details | _rejection(outputs.float(), outside.float(), real)

    def pooled(self, scores: Mapping[str, Tensor]) -> dict[str, Interval]:
        """Calibration error, without an interval."""
        from metaloop.metrics.classification import calibration_error

        real = scores["real"]
        error = calibration_error(scores["confidence"][real], scores["label"][real])
        return {CALIBRATION_ERROR.name: Interval(error, None, int(real.sum()), LEVEL)}

    def selection(self, scores: Mapping[str, Tensor]) -> tuple[Metric, Tensor]:
        """See :meth:`Problem.selection`."""
        return (CROSS_ENTROPY, scores["loss"]) if self.selects_by_loss else super().selection(scores)

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """Baseline that predicts the class of the nearest support example."""
        return Baseline(f"nearest neighbour{' in pixels' if len(input_shape) == 3 else ''}", nearest_neighbour)

    def setting(self, ways: Span, shots: Span) -> str:
        """Size of an episode, such as ``5-way 1-shot``."""
        return f"{span_text(ways)}-way {super().setting(ways, shots)}"

    def samples(self, answers: Answers, tasks: Tasks, line: Line | None) -> Scores | None:
        """Images of one episode with the queries' class probabilities; None if examples are not images."""
        support, query = tasks.support, tasks.query
        if not (isinstance(support.x, Tensor) and isinstance(query.x, Tensor) and query.x.ndim == 5):
            return None
        probabilities = answers(query.x, query.mask)[0].float().softmax(-1)
        parts = {"support_x": support.x[0], "support_y": support.y[0]}
        queries = {"query_x": query.x[0], "query_y": query.y[0], "probabilities": probabilities}
        return {"index": tasks.index[0], **_real(parts, support.mask), **_real(queries, query.mask)}


def _rejection(inside: Tensor, outside: Tensor, real: Tensor) -> Scores:
    """Both rejection scores (tasks,) from logits (tasks, queries, ways) and (tasks, outside, ways)."""
    from metaloop.metrics.classification import area_under_roc

    known, unknown = (F.softmax(logits, -1).amax(-1) for logits in (inside, outside))
    return {
        REJECTION.name: area_under_roc(known, unknown, real),
        REJECTION_BY_LOGIT.name: area_under_roc(inside.amax(-1), outside.amax(-1), real),
    }


def _real(parts: Scores, mask: Tensor | None) -> Scores:
    """Remove the padding from the first task's tensors (examples, ...)."""
    return parts if mask is None else {name: value[mask[0]] for name, value in parts.items()}
