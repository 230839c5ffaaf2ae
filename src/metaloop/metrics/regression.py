"""Scores of regression episodes."""

import torch
from torch import Tensor


def episode_scores(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Mean squared error of every episode, over its real queries and all their target values.

    Args:
        predictions: (tasks, queries, *target).
        targets: the same shape.
        mask: (tasks, queries) bool, which queries are real; None where all are.

    Returns:
        ``score`` and ``loss``, both the mean squared error in the target's squared unit, (tasks,), at least float32.

    Raises:
        ValueError: the shapes differ; they are never broadcast.
    """
    if predictions.shape != targets.shape or (mask is not None and mask.shape != targets.shape[:2]):
        shapes = [tuple(predictions.shape), tuple(targets.shape), None if mask is None else tuple(mask.shape)]
        raise ValueError(f"predictions, targets, mask have the shapes {shapes}; the first two must be equal")
    wide = torch.promote_types(predictions.dtype, torch.float32)
    squares = (predictions.to(wide) - targets.to(wide)).square()
    squares = squares.reshape(*squares.shape[:2], -1).mean(2)
    error = squares.mean(1) if mask is None else squares.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)
    return {"score": error, "loss": error}
