"""Nodes of a causal model become columns as real tables have them: skewed, categorical, irrelevant, with missing values."""

import torch
from torch import Tensor

from metaloop.data.philox import Stream

_MOST_CATEGORIES = 8


def warped(stream: Stream, numbers: Tensor, columns: Tensor) -> Tensor:
    """Skew some of the columns (tasks, rows, columns): a third by a power, a sixth by an exponential, the others not at all."""
    width = columns.shape[2]
    kind = stream.uniform(numbers, width, "kinds of warps")[:, None]
    power = torch.exp(0.6 * stream.normal(numbers, width, "powers")).float()[:, None]
    powers = columns.sign() * columns.abs().clamp(min=1e-6) ** power.clamp(0.3, 3.0)
    exponentials = torch.exp(columns.clamp(max=5.0) * (0.5 + power).clamp(max=2.0))
    return torch.where(kind < 1 / 3, powers, torch.where(kind < 1 / 2, exponentials, columns))


def categorical(stream: Stream, numbers: Tensor, columns: Tensor) -> Tensor:
    """Replace some columns (tasks, rows, columns) by codes of two to eight categories.

    A category is the number of boundaries below a value; boundaries are values of random rows, so categories have unequal
    sizes. Codes of half of these columns are in order, the others are in random order. Half of the tasks have no categories.
    """
    tasks, rows, width = columns.shape
    boundaries = _MOST_CATEGORIES - 1
    row = stream.integers(numbers, boundaries * width, "rows of boundaries", rows).view(tasks, boundaries, width)
    count = 1 + stream.integers(numbers, width, "categories", boundaries)
    used = torch.arange(boundaries, device=columns.device)[:, None] < count[:, None]
    edges = columns.gather(1, row).masked_fill(~used, torch.inf)
    code = (columns[:, :, None] > edges[:, None]).sum(2)  # (tasks, rows, columns)
    order = stream.uniform(numbers, _MOST_CATEGORIES * width, "codes").float().view(tasks, _MOST_CATEGORIES, width)
    shuffled = order.argsort(1).gather(1, code)
    in_order = stream.uniform(numbers, width, "codes in order")[:, None] < 0.5
    share = (2 * stream.uniform(numbers, 1, "share of categories") - 1).clamp(min=0.0)
    chosen = stream.uniform(numbers, width, "categorical columns") < share
    return torch.where(chosen[:, None], torch.where(in_order, code, shuffled).to(columns.dtype), columns)


def irrelevant(stream: Stream, numbers: Tensor, columns: Tensor) -> Tensor:
    """Replace some columns (tasks, rows, columns) by noise; half of the tasks have none of these."""
    tasks, rows, width = columns.shape
    share = (0.8 * stream.uniform(numbers, 1, "share of irrelevant columns") - 0.4).clamp(min=0.0)
    chosen = stream.uniform(numbers, width, "irrelevant columns") < share
    noise = stream.normal(numbers, rows * width, "irrelevant values").to(columns.dtype).view(tasks, rows, width)
    return torch.where(chosen[:, None], noise, columns)


def incomplete(stream: Stream, numbers: Tensor, columns: Tensor, share: float) -> Tensor:
    """Replace values (tasks, rows, columns) by nan in some of the tasks.

    Args:
        stream: random numbers of the split.
        numbers: (tasks,) numbers of the episodes.
        columns: (tasks, rows, columns).
        share: share of the tasks in which values are missing; there, up to 30 % of a column's values.
    """
    if not share:
        return columns
    tasks, rows, width = columns.shape
    some = stream.uniform(numbers, 1, "incomplete tables") < share
    rate = 0.3 * stream.uniform(numbers, width, "missing shares") * some
    hidden = stream.uniform(numbers, rows * width, "missing").view(tasks, rows, width) < rate[:, None]
    return columns.masked_fill(hidden, torch.nan)


def fewer(stream: Stream, numbers: Tensor, columns: Tensor, least: int) -> Tensor:
    """Make the last columns (tasks, rows, columns) unknown: a table has from ``least`` to all of them."""
    width = columns.shape[2]
    count = least + stream.integers(numbers, 1, "columns", width - least + 1)
    beyond = torch.arange(width, device=columns.device) >= count
    return columns.masked_fill(beyond[:, None], torch.nan)
