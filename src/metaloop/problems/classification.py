"""Classification: which of the task's classes is a query of?"""

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
    """Queries are scored by accuracy, logits by cross-entropy.

    Beside the score there are macro recall and macro F1, and the calibration error over the queries of all episodes. Where
    tasks have queries of no class, ``rejection`` and ``rejection_by_logit`` say how well the highest probability and the
    highest logit (for prototypes minus the smallest distance) tell them from the others, as areas under the ROC curve.
    """

    name = "classification"
    metric = ACCURACY
    loss = CrossEntropy()
    statistics: tuple[Metric, ...] = (CROSS_ENTROPY, RECALL, F1, REJECTION, REJECTION_BY_LOGIT, CALIBRATION_ERROR)

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
        """The calibration error; it has no interval."""
        from metaloop.metrics.classification import calibration_error

        real = scores["real"]
        error = calibration_error(scores["confidence"][real], scores["label"][real])
        return {CALIBRATION_ERROR.name: Interval(error, None, int(real.sum()), LEVEL)}

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """The class of the nearest support example."""
        return Baseline(f"nearest neighbour{' in pixels' if len(input_shape) == 3 else ''}", nearest_neighbour)

    def setting(self, ways: Span, shots: Span) -> str:
        """Such as ``5-way 1-shot``."""
        return f"{span_text(ways)}-way {super().setting(ways, shots)}"

    def samples(self, answers: Answers, tasks: Tasks, line: Line | None) -> Scores | None:
        """The images of one episode with the probabilities of the queries' classes; None where examples are no images."""
        support, query = tasks.support, tasks.query
        if not (isinstance(support.x, Tensor) and isinstance(query.x, Tensor) and query.x.ndim == 5):
            return None
        probabilities = answers(query.x, query.mask)[0].float().softmax(-1)
        parts = {"support_x": support.x[0], "support_y": support.y[0]}
        asked = {"query_x": query.x[0], "query_y": query.y[0], "probabilities": probabilities}
        return {"index": tasks.index[0], **_real(parts, support.mask), **_real(asked, query.mask)}


def _rejection(inside: Tensor, outside: Tensor, real: Tensor) -> Scores:
    """Both scores (tasks,), from logits (tasks, queries, ways) and (tasks, outside, ways)."""
    from metaloop.metrics.classification import area_under_roc

    known, unknown = (F.softmax(logits, -1).amax(-1) for logits in (inside, outside))
    return {
        REJECTION.name: area_under_roc(known, unknown, real),
        REJECTION_BY_LOGIT.name: area_under_roc(inside.amax(-1), outside.amax(-1), real),
    }


def _real(parts: Scores, mask: Tensor | None) -> Scores:
    """The tensors (examples, ...) of the first task without its padding."""
    return parts if mask is None else {name: value[mask[0]] for name, value in parts.items()}
