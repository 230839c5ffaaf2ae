"""Ranks of values among those of the support set, which outliers do not change."""

import math

import torch
from torch import Tensor


def mid_ranks(rows: Tensor, values: Tensor, known: Tensor) -> Tensor:
    """Ranks (rows, columns) of ``rows`` (rows, columns) among the known of ``values`` (examples, columns), in [-1, 1].

    A rank is the share of values below, less the share above, so that equal values have equal ranks. Without values it is 0.
    """
    ordered = values.masked_fill(known == 0, torch.inf).T.contiguous().sort(1).values.contiguous()  # (columns, examples)
    points = rows.T.contiguous()
    count = known.sum(0)[:, None]
    below, up_to = (torch.searchsorted(ordered, points, right=right).clamp(max=count) for right in (False, True))
    return ((below + up_to - count) / count.clamp(min=1)).T.to(rows.dtype)


def normal_scores(ranks: Tensor) -> Tensor:
    """Values of a standard normal variable that have these ``ranks`` in [-1, 1], at most three standard deviations."""
    return (math.sqrt(2) * torch.erfinv(ranks.clamp(-0.9973, 0.9973))).to(ranks.dtype)
