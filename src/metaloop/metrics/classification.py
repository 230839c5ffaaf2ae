"""Scores of classification episodes."""

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_f1_score,
    multiclass_recall,
)

from metaloop.errors import UserError

_IGNORED = -1  # the label of padding


def episode_scores(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Accuracy, loss, macro recall and macro F1 of every episode.

    Macro averages run over the classes that occur in an episode's labels or predictions, as scikit-learn's do.

    Args:
        logits: (tasks, queries, ways); classes that an episode lacks may be -inf.
        labels: (tasks, queries) class numbers in [0, ways).
        mask: (tasks, queries) bool, which queries are real; None where all are.

    Returns:
        ``score`` (accuracy in [0, 1]), ``loss`` (cross-entropy in nats), ``recall`` and ``f1`` in [0, 1], each
        (tasks,), at least float32.

    Raises:
        UserError: there are fewer than two ways.
        ValueError: the shapes do not fit each other.
    """
    _check(logits, labels, mask)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if mask is not None:
        labels = labels.masked_fill(~mask, _IGNORED)
    guesses, ways = logits.argmax(-1), logits.shape[-1]

    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="none")
    real = labels != _IGNORED
    return {
        "score": multiclass_accuracy(
            guesses, labels, ways, average="micro", multidim_average="samplewise", ignore_index=_IGNORED
        ),
        "loss": losses.view(labels.shape).sum(1) / real.sum(1),
        "recall": multiclass_recall(
            guesses, labels, ways, average="macro", multidim_average="samplewise", ignore_index=_IGNORED
        ),
        "f1": multiclass_f1_score(guesses, labels, ways, average="macro", multidim_average="samplewise", ignore_index=_IGNORED),
    }


def area_under_roc(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """How likely a positive scores above a negative, ties counting half: the area under the ROC curve of every episode.

    Source: Hendrycks and Gimpel 2017, section 2, with the highest softmax probability as score.

    Args:
        positive: (tasks, n) scores.
        negative: (tasks, m) scores.
        mask: (tasks, n) bool, which positives are real; None where all are.

    Returns:
        (tasks,) in [0, 1]; 0.5 says nothing is told apart.
    """
    left, right = positive[:, :, None], negative[:, None]
    wins = ((left > right).to(positive.dtype) + 0.5 * (left == right).to(positive.dtype)).mean(2)
    return wins.mean(1) if mask is None else (wins * mask).sum(1) / mask.sum(1)


def calibration_error(probabilities: Tensor, labels: Tensor, mask: Tensor | None = None, bins: int = 15) -> float:
    """Expected calibration error of the top class over all queries of all episodes, in [0, 1].

    Pooled and not per episode: the few queries of one episode leave most bins empty, which inflates the error.
    Source: Guo et al. 2017, equation 3, with equally wide bins.

    Args:
        probabilities: (..., ways), sums of 1 over the last axis.
        labels: (...) class numbers in [0, ways).
        mask: (...) bool, which queries are real; None where all are.
        bins: how many bins of equal width.

    Raises:
        UserError: there are fewer than two ways.
        ValueError: the shapes do not fit each other, or the probabilities do not sum to 1.
    """
    _check(probabilities, labels, mask)
    ways = probabilities.shape[-1]
    chosen, targets = probabilities.reshape(-1, ways).float(), labels.reshape(-1)
    if mask is not None:
        chosen, targets = chosen[mask.reshape(-1)], targets[mask.reshape(-1)]
    if not torch.allclose(chosen.sum(-1), torch.ones(len(chosen), device=chosen.device), atol=1e-2):
        raise ValueError("probabilities do not sum to 1 over the last axis; give softmax(logits)")
    # torchmetrics takes anything above 1 for logits, and rounding may lift a sure answer there.
    return float(multiclass_calibration_error(chosen.clamp(0.0, 1.0), targets, ways, n_bins=bins, norm="l1"))


def _check(values: Tensor, labels: Tensor, mask: Tensor | None) -> None:
    if values.shape[-1] < 2:
        raise UserError(f"episode.ways={values.shape[-1]}: classification needs at least 2 ways")
    if values.shape[:-1] != labels.shape or (mask is not None and mask.shape != labels.shape):
        shapes = [tuple(values.shape), tuple(labels.shape), None if mask is None else tuple(mask.shape)]
        raise ValueError(f"predictions, labels, mask have the shapes {shapes}; expected (..., ways), (...), (...)")
