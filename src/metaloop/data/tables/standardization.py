"""Columns in standard deviations of the support set, and the form in which a model reads them."""

import torch
from torch import Tensor

_CLIP = 10.0  # standard deviations: a query can be far off in a column that hardly varies in the support set
_ROUNDING = 1e-12  # largest difference of equal numbers, relative to their size; float64 has 16 digits


def standardized(support: Tensor, query: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Standardise support and query by the support set.

    Args:
        support: (tasks, n, 1 + features), with nan for missing values.
        query: (tasks, m, 1 + features), with nan for missing values.
        mask: (tasks, n) bool, True for real support rows; None if all are real.

    Returns:
        For support and query, the targets (tasks, n, 1) and the features (tasks, n, features).
    """
    count, mean, unit, varies = column_statistics(support, mask)
    parts = []
    for rows in (support, query):
        scaled = (rows - mean) / unit
        features = scaled[..., 1:].clamp(-_CLIP, _CLIP).masked_fill(~varies[..., 1:] & ~rows[..., 1:].isnan(), 0.0)
        # Without a value in the support set the unit of a column is unknown, so a query's value has no meaning either.
        parts.append((scaled[..., :1], features.masked_fill(count[..., 1:] == 0, torch.nan)))
    return parts


def column_statistics(support: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Number of values, mean, standard deviation, and whether values differ, for every column: (tasks, 1, columns) each."""
    known = ~support.isnan() if mask is None else ~support.isnan() & mask[..., None]
    count = known.sum(1, keepdim=True)
    mean = support.masked_fill(~known, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    variance = (support - mean).square().masked_fill(~known, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    # A column that is constant in the support set has no unit. Times may vary by a millionth of their size: no rounding.
    low = support.masked_fill(~known, torch.inf).amin(1, keepdim=True)
    high = support.masked_fill(~known, -torch.inf).amax(1, keepdim=True)
    varies = (high - low > _ROUNDING * torch.maximum(low.abs(), high.abs())) & (variance > 0)
    return count, mean, torch.where(varies, variance.sqrt(), 1.0), varies


def inputs(x: Tensor) -> Tensor:
    """Values with zeros for missing ones, and the mask of known values: (tasks, n, 2, features) float32."""
    return torch.stack([x.nan_to_num(nan=0.0), (~x.isnan()).to(x.dtype)], -2).float()
