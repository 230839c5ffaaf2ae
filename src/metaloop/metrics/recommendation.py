"""Statistics of recommendation: discounted cumulative gain, means that few ratings move little, and entropy of ratings."""

import torch
from torch import Tensor


def ndcg(predicted: Tensor, relevance: Tensor, k: int, mask: Tensor | None = None) -> Tensor:
    """Compute the normalised discounted cumulative gain of the first ``k`` items of each ranking.

    Items are ranked by their predicted values, the highest first. With the relevance ``r_i`` of the item at rank i,

        DCG@k = sum over i = 1..k of (2^r_i - 1) / log2(i + 1),    nDCG@k = DCG@k / (highest possible DCG@k),

    as in Lee et al. 2019 (equation 6) and Burges et al. 2005. Items with equal predictions share the mean of their gains
    (McSherry and Najork 2008), so that their order in memory does not matter.

    Args:
        predicted: (tasks, items).
        relevance: (tasks, items), at least 0.
        k: number of ranks that count, at least 1.
        mask: (tasks, items) bool, True for real items; None if all are real.

    Returns:
        (tasks,) in [0, 1]; 1 for a task whose items all have the relevance 0.
    """
    real = torch.ones_like(predicted, dtype=torch.bool) if mask is None else mask
    gains = (torch.exp2(relevance.double()) - 1) * real
    found = _discounted(predicted, gains, real, k)
    best = _discounted(relevance, gains, real, k)
    return torch.where(best > 0, found / best.clamp(min=1e-12), 1.0)


def _discounted(values: Tensor, gains: Tensor, real: Tensor, k: int) -> Tensor:
    """DCG@k (tasks,) of the ranking by ``values``; each of several equal items has the mean discount of their ranks."""
    ranks = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device)
    discounts = torch.where(ranks <= k, 1 / torch.log2(ranks + 1), 0.0)
    before = torch.cat([discounts.new_zeros(1), discounts.cumsum(0)])  # sum of the discounts of the first ranks
    pairs = real[:, None, :]
    better = ((values[:, None, :] > values[:, :, None]) & pairs).sum(2)
    equal = ((values[:, None, :] == values[:, :, None]) & pairs).sum(2).clamp(min=1)
    last = (better + equal).clamp(max=values.shape[1])
    return (gains * (before[last] - before[better]) / equal).sum(1)


def damped_means(values: Tensor, groups: Tensor, count: int, damping: float) -> Tensor:
    """Compute the mean of each group, drawn towards 0 as if it had ``damping`` further values of 0.

    Args:
        values: (n,).
        groups: (n,) int64 in [0, count).
        count: number of groups.
        damping: at least 0; with 0 the mean of an empty group is 0.

    Returns:
        (count,): ``sum / (number + damping)``, as in Koren 2010 (equation 2).
    """
    sums = values.new_zeros(count).index_add(0, groups, values)
    numbers = values.new_zeros(count).index_add(0, groups, torch.ones_like(values))
    return sums / (numbers + damping).clamp(min=1e-12)


def label_entropy(labels: Tensor, groups: Tensor, count: int) -> Tensor:
    """Compute the entropy (count,) of the labels of each group, in nats, float64; 0 for an empty group.

    Args:
        labels: (n,), of which equal ones count as one label.
        groups: (n,) int64 in [0, count).
        count: number of groups.
    """
    values, label = torch.unique(labels, return_inverse=True)
    cells = torch.bincount(groups * len(values) + label, minlength=count * len(values)).view(count, -1).double()
    shares = cells / cells.sum(1, keepdim=True).clamp(min=1)
    return -torch.xlogy(shares, shares).sum(1)
