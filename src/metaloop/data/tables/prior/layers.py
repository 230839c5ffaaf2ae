"""Random functions that compute one layer of a causal model from the layer before: perceptrons and trees.

All functions are batched: every task has its own function, and none is a Python loop over tasks.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.data.philox import Stream

_TREE_DEPTH = 4  # levels of a tree; some of them have one side only, so that trees of fewer leaves occur


def _bump(z: Tensor) -> Tensor:
    return torch.exp(-z.square())


def _step(z: Tensor) -> Tensor:
    return (z > 0).to(z.dtype)


def _wave(z: Tensor) -> Tensor:
    return torch.sin(2 * z)


def _fold(z: Tensor) -> Tensor:
    return z.square().clamp(max=16.0)


# The first ones are listed twice because smooth monotone relations are the most frequent in real tables.
ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    *3 * (torch.nn.Identity(), torch.tanh), *2 * (torch.relu,), torch.abs, _fold, _wave, _bump, _step,
)  # fmt: skip


def standardize(nodes: Tensor) -> Tensor:
    """Give every node (tasks, rows, nodes) mean 0 and standard deviation 1 over the rows; a constant node becomes 0."""
    centred = nodes - nodes.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)


def perceptron(stream: Stream, numbers: Tensor, parents: Tensor, purpose: str) -> Tensor:
    """Compute nodes as activations of sparse weighted sums of their parents.

    Each task has its own share of edges, and each node its own activation.

    Args:
        stream: random numbers of the split.
        numbers: (tasks,) numbers of the episodes.
        parents: (tasks, rows, nodes), standardized.
        purpose: name of this layer's random numbers.

    Returns:
        (tasks, rows, nodes), standardized.
    """
    tasks, _, width = parents.shape
    weights = stream.normal(numbers, width * width, f"{purpose} weights").float().view(tasks, width, width)
    share = 0.2 + 0.8 * stream.uniform(numbers, 1, f"{purpose} density").float()[..., None]
    edges = stream.uniform(numbers, width * width, f"{purpose} edges").float().view(tasks, width, width) < share
    edges |= torch.eye(width, dtype=torch.bool, device=parents.device)  # no node is without a parent
    sums = standardize(parents @ (weights * edges))
    shift = stream.normal(numbers, width, f"{purpose} shifts").float()[:, None]
    steepness = torch.exp(0.7 * stream.normal(numbers, 1, f"{purpose} steepness").float())[..., None]
    choice = stream.integers(numbers, width, f"{purpose} activations", len(ACTIVATIONS))
    inputs, outputs = steepness * sums + shift, torch.zeros_like(sums)
    for number, activation in enumerate(ACTIVATIONS):
        outputs = torch.where((choice == number)[:, None], activation(inputs), outputs)
    return standardize(outputs)


def trees(stream: Stream, numbers: Tensor, parents: Tensor, purpose: str) -> Tensor:
    """Compute nodes as random decision trees of their parents, one tree a node.

    All splits of one level of a tree ask the same question, whether a parent is above its value in a random row; so
    thresholds lie where the data is. A quarter of the levels asks nothing. Leaves have normal values.

    Args, returns: as for :func:`perceptron`.
    """
    tasks, rows, width = parents.shape
    splits = width * _TREE_DEPTH
    parent = stream.integers(numbers, splits, f"{purpose} parents", width)
    row = stream.integers(numbers, splits, f"{purpose} rows", rows)
    asks = stream.uniform(numbers, splits, f"{purpose} asks") > 0.25
    values = parents.gather(2, parent[:, None].expand(-1, rows, -1))  # (tasks, rows, splits)
    above = (values > values.gather(1, row[:, None])) & asks[:, None]
    leaf = (torch.unflatten(above, 2, (width, _TREE_DEPTH)) * 2 ** torch.arange(_TREE_DEPTH, device=parents.device)).sum(-1)
    leaves = stream.normal(numbers, width * 2**_TREE_DEPTH, f"{purpose} leaves").float().view(tasks, width, -1)
    reached = leaves.gather(2, leaf.transpose(1, 2)).transpose(1, 2)
    return standardize(reached)


def noisy(stream: Stream, numbers: Tensor, nodes: Tensor, purpose: str) -> Tensor:
    """Add noise to standardized ``nodes``, whose standard deviation is log-uniform from 0.005 to 0.5 and each task's own."""
    tasks, rows, width = nodes.shape
    scale = 0.5 * torch.exp(math.log(0.01) * stream.uniform(numbers, 1, f"{purpose} noise scale").float())[..., None]
    return standardize(
        nodes + scale * stream.normal(numbers, rows * width, f"{purpose} noise").float().view(tasks, rows, width)
    )
