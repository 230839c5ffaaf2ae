"""Baselines: predictions without training, which every meta-learner should beat."""

import torch
from torch import Tensor

from metaloop.types import Examples, Inputs


def nearest_neighbour(support: Examples, x: Inputs) -> Tensor:
    """Predict for each query the class of the nearest support example, by Euclidean distance of raw inputs.

    Args:
        support: (tasks, examples, ...).
        x: (tasks, queries, *input). Of named tensors the first is compared; for words in sentences, their token ids.

    Returns:
        (tasks, queries, ways): 1 for the chosen class, else 0.
    """
    left, right = (_flat(inputs) for inputs in (x, support.x))
    distances = torch.cdist(left, right)
    if support.mask is not None:
        distances = distances.masked_fill(~support.mask[:, None], float("inf"))
    nearest = distances.argmin(-1)
    return torch.nn.functional.one_hot(support.y.gather(1, nearest), support.ways).to(left.dtype)


def support_mean(support: Examples, x: Inputs) -> Tensor:
    """Predict for each query the mean of the real support targets (tasks, queries, *target)."""
    queries, real = _flat(x).shape[1], support.mask
    if real is None:
        mean = support.y.mean(1, keepdim=True)
    else:
        weight = (real / real.sum(1, keepdim=True)).view(*real.shape, *(1,) * (support.y.ndim - 2)).to(support.y.dtype)
        mean = (support.y * weight).sum(1, keepdim=True)
    return mean.expand(-1, queries, *support.y.shape[2:])


def _flat(inputs: Inputs) -> Tensor:
    first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
    if not isinstance(inputs, Tensor) and "place" in inputs:
        first = first.gather(2, inputs["place"])
    return first.flatten(2).float()
