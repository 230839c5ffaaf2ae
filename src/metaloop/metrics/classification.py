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

_IGNORED = -1  # label of padding


def episode_scores(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Compute accuracy, loss, macro recall and macro F1 of every episode.

    Macro averages run over the classes that occur in an episode's labels or predictions, as in scikit-learn.

    Args:
        logits: (tasks, queries, ways); -inf for classes that are not in an episode.
        labels: (tasks, queries) class numbers in [0, ways).
        mask: (tasks, queries) bool, True for real queries; None if all are real.

    Returns:
        ``score`` (accuracy in [0, 1]), ``loss`` (cross-entropy in nats), ``recall`` and ``f1`` in [0, 1], each
        (tasks,), at least float32.

    Raises:
        UserError: there are fewer than two ways.
        ValueError: the shapes do not match.
    """
    _check(logits, labels, mask)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if mask is not None:
        labels = labels.masked_fill(~mask, _IGNORED)
    predictions, ways = logits.argmax(-1), logits.shape[-1]

    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="none")
    real = labels != _IGNORED
    return {
        "score": multiclass_accuracy(
            predictions, labels, ways, average="micro", multidim_average="samplewise", ignore_index=_IGNORED
        ),
        "loss": losses.view(labels.shape).sum(1) / real.sum(1),
        "recall": multiclass_recall(
            predictions, labels, ways, average="macro", multidim_average="samplewise", ignore_index=_IGNORED
        ),
        "f1": multiclass_f1_score(
            predictions, labels, ways, average="macro", multidim_average="samplewise", ignore_index=_IGNORED
        ),
    }


def area_under_roc(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the area under the ROC curve of every episode.

    This is the probability that a positive scores above a negative, with ties counting half.
    Source: Hendrycks and Gimpel 2017, section 2, with the highest softmax probability as score.

    Args:
        positive: (tasks, n) scores.
        negative: (tasks, m) scores.
        mask: (tasks, n) bool, True for real positives; None if all are real.

    Returns:
        (tasks,) in [0, 1]; 0.5 is chance level.
    """
    left, right = positive[:, :, None], negative[:, None]
    wins = ((left > right).to(positive.dtype) + 0.5 * (left == right).to(positive.dtype)).mean(2)
    return wins.mean(1) if mask is None else (wins * mask).sum(1) / mask.sum(1)


def area_under_roc_of_classes(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the mean area under the ROC curve of each class against all others, of every episode.

    The mean runs over the classes that some queries have and others do not, as in scikit-learn's ``roc_auc_score`` with
    ``multi_class="ovr"`` and ``average="macro"``. With two classes it is the usual area. Ties count half.

    Args:
        scores: (tasks, queries, ways), such as probabilities.
        labels: (tasks, queries) class numbers in [0, ways).
        mask: (tasks, queries) bool, True for real queries; None if all are real.

    Returns:
        (tasks,) in [0, 1]; 0.5, which is chance, for an episode whose queries are of one class: there is nothing to order.
    """
    real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    areas, counted = [], []
    for label in range(scores.shape[-1]):
        value = scores[..., label]
        positive, negative = real & (labels == label), real & (labels != label)
        higher = (value[:, :, None] > value[:, None]).double() + 0.5 * (value[:, :, None] == value[:, None]).double()
        pairs = positive[:, :, None] & negative[:, None]
        areas.append((higher * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1))
        counted.append(pairs.any(2).any(1))
    occurs = torch.stack(counted, 1)
    area = (torch.stack(areas, 1) * occurs).sum(1) / occurs.sum(1).clamp(min=1)
    return torch.where(occurs.any(1), area, 0.5)


def calibration_error(probabilities: Tensor, labels: Tensor, mask: Tensor | None = None, bins: int = 15) -> float:
    """Compute the expected calibration error of the top class over all queries of all episodes, in [0, 1].

    Queries are pooled: the few queries of one episode would leave most bins empty, which inflates the error.
    Source: Guo et al. 2017, equation 3, with bins of equal width.

    Args:
        probabilities: (..., ways), summing to 1 over the last axis.
        labels: (...) class numbers in [0, ways).
        mask: (...) bool, True for real queries; None if all are real.
        bins: number of bins of equal width.

    Raises:
        UserError: there are fewer than two ways.
        ValueError: the shapes do not match, or the probabilities do not sum to 1.
    """
    _check(probabilities, labels, mask)
    ways = probabilities.shape[-1]
    pooled, targets = probabilities.reshape(-1, ways).float(), labels.reshape(-1)
    if mask is not None:
        pooled, targets = pooled[mask.reshape(-1)], targets[mask.reshape(-1)]
    if not torch.allclose(pooled.sum(-1), torch.ones(len(pooled), device=pooled.device), atol=1e-2):
        raise ValueError("probabilities do not sum to 1 over the last axis; pass softmax(logits)")
    # torchmetrics treats any value above 1 as a logit, and rounding can push a probability of 1 there.
    return float(multiclass_calibration_error(pooled.clamp(0.0, 1.0), targets, ways, n_bins=bins, norm="l1"))


def _check(values: Tensor, labels: Tensor, mask: Tensor | None) -> None:
    if values.shape[-1] < 2:
        raise UserError(f"episode.ways={values.shape[-1]}: classification needs at least 2 ways")
    if values.shape[:-1] != labels.shape or (mask is not None and mask.shape != labels.shape):
        shapes = [tuple(values.shape), tuple(labels.shape), None if mask is None else tuple(mask.shape)]
        raise ValueError(f"predictions, labels and mask have the shapes {shapes}; expected (..., ways), (...), (...)")
