"""Scores of regression episodes, for point predictions and for predictive distributions."""

import math

import torch
from torch import Tensor

BAND = 0.9  # share of targets that the band of a calibrated prediction covers
_HALF_BAND = 1.6448536269514722  # half the width of that band in standard deviations: the normal quantile of 0.95


def band(gaussian: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper edge (...) of the central 90 % band of normal distributions.

    Args:
        gaussian: (..., 2) means and standard deviations.
    """
    mean, deviation = gaussian.unbind(-1)
    return mean - _HALF_BAND * deviation, mean + _HALF_BAND * deviation


def log_likelihood(gaussian: Tensor, targets: Tensor) -> Tensor:
    """Log density (...) of targets under normal distributions, in nats.

    Args:
        gaussian: (..., 2) means and standard deviations.
        targets: (...) values.
    """
    mean, deviation = gaussian.unbind(-1)
    return -0.5 * ((targets - mean) / deviation).square() - deviation.log() - 0.5 * math.log(2 * math.pi)


def episode_scores(predictions: Tensor, targets: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Compute the mean squared error of every episode, over its real queries and all their target values.

    Args:
        predictions: (tasks, queries, *target) values; or (tasks, queries, *target, 2) means and standard deviations of
            normal distributions, of which the means are scored.
        targets: (tasks, queries, *target).
        mask: (tasks, queries) bool, True for real queries; None if all are real.

    Returns:
        ``score`` and ``loss``, both the mean squared error in the target's squared unit, (tasks,), at least float32. For
        distributions, ``log_likelihood`` is the mean log-likelihood of a target value in nats, ``loss`` its negative, and
        ``coverage`` the share of target values within the central 90 % band.

    Raises:
        ValueError: the shapes differ; they are never broadcast.
    """
    distributions = predictions.shape == (*targets.shape, 2)
    if not (distributions or predictions.shape == targets.shape) or (mask is not None and mask.shape != targets.shape[:2]):
        shapes = [tuple(predictions.shape), tuple(targets.shape), None if mask is None else tuple(mask.shape)]
        raise ValueError(f"predictions, targets and mask have the shapes {shapes}; the first two must be equal")
    wide = torch.promote_types(predictions.dtype, torch.float32)
    predictions, targets = predictions.to(wide), targets.to(wide)
    error = _mean((predictions[..., 0] if distributions else predictions).sub(targets).square(), mask)
    if not distributions:
        return {"score": error, "loss": error}
    likelihood = _mean(log_likelihood(predictions, targets), mask)
    low, high = band(predictions)
    coverage = _mean(((low <= targets) & (targets <= high)).to(wide), mask)
    return {"score": error, "loss": -likelihood, "log_likelihood": likelihood, "coverage": coverage}


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean (tasks,) of ``values`` (tasks, queries, *target) over real queries and target entries."""
    values = values.reshape(*values.shape[:2], -1).mean(2)
    return values.mean(1) if mask is None else values.masked_fill(~mask, 0.0).sum(1) / mask.sum(1)
