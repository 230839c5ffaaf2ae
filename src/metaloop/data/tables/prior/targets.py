"""Targets of synthetic tables: values of a node, or classes made from nodes."""

import torch
from torch import Tensor

from metaloop.data.philox import Stream
from metaloop.data.tables.prior.layers import standardize

_RARE = 10


def class_counts(stream: Stream, numbers: Tensor, most: int) -> Tensor:
    """Draw the number of classes (tasks, 1) of each task, from 2 to ``most``; half of the tasks of up to ten have two."""
    u = stream.uniform(numbers, 1, "number of classes")
    return 2 + (u**3 * (most - 1)).long().clamp(max=most - 2)


def ranked_classes(stream: Stream, numbers: Tensor, node: Tensor, count: Tensor, most: int) -> Tensor:
    """Classes (tasks, rows) by cutting one ``node`` (tasks, rows) at the values of random rows.

    In a third of the tasks a cut is the highest value of ten random rows, so that high values are rare classes.
    """
    rows = node.shape[1]
    row = stream.integers(numbers, (most - 1) * _RARE, "rows of cuts", rows)
    values = torch.unflatten(node.gather(1, row), 1, (most - 1, _RARE))
    rare = stream.uniform(numbers, 1, "rare classes") < 1 / 3
    cut = torch.where(rare, values.amax(2), values[..., 0])
    cut = cut.masked_fill(torch.arange(most - 1, device=node.device) >= count - 1, torch.inf)
    return (node[..., None] > cut[:, None]).sum(-1)


def competing_classes(stream: Stream, numbers: Tensor, nodes: Tensor, count: Tensor, most: int) -> Tensor:
    """Classes (tasks, rows), each with a linear score of the ``nodes`` (tasks, rows, nodes); the highest score wins.

    A random number is added to the scores of each class, so that classes have unequal sizes.
    """
    tasks, _, width = nodes.shape
    weights = stream.normal(numbers, width * most, "class weights").float().view(tasks, width, most)
    scores = standardize(nodes @ weights) + 0.7 * stream.normal(numbers, most, "class sizes").float()[:, None]
    return scores.masked_fill((torch.arange(most, device=nodes.device) >= count)[:, None], -torch.inf).argmax(-1)


def classes(stream: Stream, numbers: Tensor, nodes: Tensor, target: Tensor, cluster: Tensor, most: int) -> Tensor:
    """Draw the classes (tasks, rows) of synthetic tables, numbered in random order.

    A third of the tasks cut a node. In another third, if the rows lie in clusters, a class is a union of clusters. The others
    have competing scores.

    Args:
        stream: random numbers of the split.
        numbers: (tasks,) numbers of the episodes.
        nodes: (tasks, rows, nodes), the last layer of the causal model.
        target: (tasks, rows), the node that is cut.
        cluster: (tasks, rows), cluster of each row; -1 in tasks without clusters.
        most: highest number of classes.
    """
    count = class_counts(stream, numbers, most)
    kind = stream.uniform(numbers, 1, "kind of classes")
    ranked = ranked_classes(stream, numbers, target, count, most)
    competing = competing_classes(stream, numbers, nodes, count, most)
    drawn = torch.where(kind < 1 / 3, ranked, torch.where((kind < 2 / 3) | (cluster < 0), competing, cluster % count))
    order = stream.uniform(numbers, most, "order of classes")
    order = order.masked_fill(torch.arange(most, device=nodes.device) >= count, 2.0).argsort(1).argsort(1)
    return order.gather(1, drawn)
