"""Kinds of synthetic anomalies, after the taxonomy of ADBench (Han et al. 2022, section 3.4), as changes of standardized rows.

ADBench makes them from Gaussian mixtures and vine copulas that are fitted to a data set; here they are changes of rows of a
random causal model, whose strength, columns and mixture are each task's own. The distributions are ours.
"""

import math

import torch
from torch import Tensor

from metaloop.data.philox import Stream

KINDS = 4


def log_uniform(stream: Stream, numbers: Tensor, purpose: str, low: float, high: float) -> Tensor:
    """Draw numbers (tasks, 1, 1) whose logarithm is uniform."""
    u = stream.uniform(numbers, 1, purpose).float()[..., None]
    return low * torch.exp(math.log(high / low) * u)


def changed(stream: Stream, numbers: Tensor, rows: Tensor, inliers: Tensor) -> Tensor:
    """Turn rows into anomalies, each task by one kind or by two.

    Args:
        stream: random numbers of the split.
        numbers: (tasks,) numbers of the episodes.
        rows: (tasks, n, columns), standardized rows that become anomalies.
        inliers: (tasks, m, columns), other rows of the same distribution.

    Returns:
        (tasks, n, columns).
    """
    made = torch.stack(
        [
            _local(stream, numbers, rows),
            _global(stream, numbers, rows, inliers),
            _dependency(stream, numbers, rows, inliers),
            _cluster(stream, numbers, rows),
        ]
    )
    kinds = stream.integers(numbers, 2, "kinds of anomalies", KINDS)
    second = stream.uniform(numbers, rows.shape[1], "second kind") < 0.5
    pure = stream.uniform(numbers, 1, "one kind") < 0.6
    kind = torch.where(second & ~pure, kinds[:, 1:], kinds[:, :1])  # (tasks, n)
    anomalies = made.gather(0, kind[None, :, :, None].expand(1, -1, -1, rows.shape[2]))[0]
    return torch.where(_columns(stream, numbers, rows), anomalies, rows)


def _columns(stream: Stream, numbers: Tensor, rows: Tensor) -> Tensor:
    """Which columns of each row change (tasks, n, columns): in half of the tasks the same of all rows; at least one."""
    tasks, count, width = rows.shape
    share = 0.1 + 0.9 * stream.uniform(numbers, 1, "share of changed columns").float()[..., None]
    own = stream.uniform(numbers, count * width, "columns of a row").float().view(tasks, count, width)
    common = stream.uniform(numbers, width, "columns of a task").float()[:, None].expand_as(own)
    u = torch.where(stream.uniform(numbers, 1, "common columns")[..., None] < 0.5, common, own)
    return (u < share) | (u == u.amin(2, keepdim=True))


def _local(stream: Stream, numbers: Tensor, rows: Tensor) -> Tensor:
    """Near an inlier, with more noise."""
    noise = stream.normal(numbers, rows[0].numel(), "local noise").float().view(rows.shape)
    return rows + log_uniform(stream, numbers, "local scale", 0.3, 4.0) * noise


def _global(stream: Stream, numbers: Tensor, rows: Tensor, inliers: Tensor) -> Tensor:
    """Uniform over the range of the inliers, which is widened or narrowed."""
    low, high = inliers.amin(1, keepdim=True), inliers.amax(1, keepdim=True)
    u = stream.uniform(numbers, rows[0].numel(), "global values").float().view(rows.shape)
    factor = log_uniform(stream, numbers, "global range", 0.5, 1.5)
    return (low + high) / 2 + factor * (high - low) * (u - 0.5)


def _dependency(stream: Stream, numbers: Tensor, rows: Tensor, inliers: Tensor) -> Tensor:
    """Each value is that of another random inlier, so that columns are independent."""
    donor = stream.integers(numbers, rows[0].numel(), "donors", inliers.shape[1]).view(rows.shape)
    return inliers.gather(1, donor)


def _cluster(stream: Stream, numbers: Tensor, rows: Tensor) -> Tensor:
    """A cluster of its own: the rows drawn together or not, and shifted by one vector."""
    direction = stream.normal(numbers, rows.shape[2], "shift").float()[:, None]
    spread = log_uniform(stream, numbers, "cluster spread", 0.1, 1.0)
    centre = rows[:, :1]
    return centre + spread * (rows - centre) + log_uniform(stream, numbers, "cluster shift", 0.5, 4.0) * direction
