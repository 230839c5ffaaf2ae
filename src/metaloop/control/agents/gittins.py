"""Gittins indices of Bernoulli arms with uniform priors, by dynamic programming.

The index of an arm is the certain payment for each pull at which one is indifferent between pulling the arm, for as long as one
likes, and taking the payment for all pulls that are left (Gittins 1979). For n pulls in total there is no such theorem, and the
index for the pulls that are left is a very good rule, not the best one.
"""

import torch
from torch import Tensor

from metaloop.errors import UserError

_PAYMENTS = 501  # payments in [0, 1] at which the value of an arm is computed; between them it is nearly linear


def finite_indices(pulls: int) -> list[Tensor]:
    """Compute the indices for finitely many pulls, each of which counts the same.

    Args:
        pulls: number of pulls of a trial.

    Returns:
        ``indices[left][successes, failures]`` for 1 to ``pulls`` pulls left; (size, size) float32, where size is
        ``pulls - left + 1``, since an arm has been pulled at most ``pulls - left`` times.
    """
    payment = torch.linspace(0, 1, _PAYMENTS)
    later = torch.zeros(pulls + 1, pulls + 1, _PAYMENTS)  # values with no pull left
    indices = [torch.empty(0)]
    for left in range(1, pulls + 1):
        size = pulls - left + 1
        pulled = _pulled(later, size, 1.0)
        indices.append(_indifferent(pulled - left * payment, payment))
        later = torch.maximum(pulled, left * payment)
    return indices


def discounted_indices(pulls: int, discount: float) -> Tensor:
    """Compute the indices for endlessly many pulls, each of which counts ``discount`` times the one before.

    Values of arms with so many pulls that they matter less than 1e-6 are those of an arm whose probability is known to be its
    mean.

    Args:
        pulls: number of pulls for which indices are wanted.
        discount: in (0, 1).

    Returns:
        ``indices[successes, failures]``, (pulls, pulls) float32, right where both together are below ``pulls``.
    """
    if not 0 < discount < 1:
        raise UserError(f"algorithm.agent.discount={discount}: above 0 and below 1, or null for as many pulls as are left")
    depth = pulls + int(-13.8 / torch.tensor(discount).log())
    payment = torch.linspace(0, 1, _PAYMENTS)
    endless = payment / (1 - discount)
    indices = torch.zeros(pulls, pulls)
    later = torch.maximum(_means(depth, torch.arange(depth + 1))[:, None] / (1 - discount), endless)
    for total in range(depth - 1, -1, -1):  # arms with so many pulls, by their successes
        mean = _means(total, torch.arange(total + 1))[:, None]
        pulled = mean + discount * (mean * later[1:] + (1 - mean) * later[:-1])
        if total < pulls:
            successes = torch.arange(total + 1)
            indices[successes, total - successes] = _indifferent(pulled - endless, payment)
        later = torch.maximum(pulled, endless)
    return indices


def _means(total: int | Tensor, successes: Tensor) -> Tensor:
    """Mean of an arm after so many pulls and successes."""
    return (successes + 1) / (total + 2)


def _pulled(later: Tensor, size: int, discount: float) -> Tensor:
    """Value of pulling an arm of each (successes, failures) below ``size``; ``later`` has the values after the pull."""
    successes, failures = torch.arange(size)[:, None], torch.arange(size)
    mean = _means(successes + failures, successes)[..., None]
    return mean * (1 + discount * later[1 : size + 1, :size]) + (1 - mean) * discount * later[:size, 1 : size + 1]


def _indifferent(advantage: Tensor, payment: Tensor) -> Tensor:
    """Find where ``advantage`` (..., payments), which falls, is 0, linearly between the payments."""
    above = (advantage > 0).sum(-1, keepdim=True).clamp(1, len(payment) - 1)
    high, low = advantage.gather(-1, above - 1), advantage.gather(-1, above)
    share = (high / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return ((above - 1 + share) * (payment[1] - payment[0]))[..., 0]
