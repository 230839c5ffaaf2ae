"""Synthetic tasks in float64 for the checks of learners and comparisons."""

from dataclasses import replace

import torch
from torch import Tensor

from metaloop.types import Examples, Tasks, map_inputs

TASKS, SHOTS, QUERIES = 2, 3, 2


def made_tasks(
    input_shape: tuple[int, ...], *, ways: int, targets: int | None = None, unlabelled: int = 0, seed: int = 0
) -> Tasks:
    """Make tasks of normal random inputs, with a different mean for each class.

    Args:
        input_shape: shape of one example.
        ways: number of classes of a task.
        targets: size of a regression target; None for classification.
        unlabelled: number of unlabelled support examples of a task.
        seed: seed of all random numbers.
    """
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    means = normal(TASKS, ways, 1, *input_shape)

    def examples(count: int) -> Examples:
        x = (means + normal(TASKS, ways, count, *input_shape)).flatten(1, 2)
        if targets is not None:
            return Examples(x, normal(TASKS, ways * count, targets))
        y = torch.arange(ways).repeat_interleave(count).expand(TASKS, -1).contiguous()
        return Examples(x, y, ways=ways)

    support, query = examples(SHOTS), examples(QUERIES)
    if unlabelled:
        support = replace(support, unlabelled=normal(TASKS, unlabelled, *input_shape))
    classes = None if targets is not None else torch.arange(ways).expand(TASKS, -1).contiguous()
    return Tasks(support, query, torch.arange(TASKS), classes)


def padded(tasks: Tasks) -> Tasks:
    """Mask a support example and a query of task 0, and the last class (or the last examples) of task 1."""
    support = torch.ones(tasks.support.y.shape[:2], dtype=torch.bool)
    query = torch.ones(tasks.query.y.shape[:2], dtype=torch.bool)
    support[0, 1] = query[0, 1] = False
    support[1, -SHOTS:] = query[1, -QUERIES:] = False
    classes = tasks.classes
    if classes is not None:
        classes = classes.clone()
        classes[1, -1] = -1
    return replace(tasks, support=replace(tasks.support, mask=support), query=replace(tasks.query, mask=query), classes=classes)


def with_other_padding(examples: Examples) -> Examples:
    """Replace inputs in padding by noise and labels in padding by other ones; real examples stay."""
    mask = examples.mask
    assert mask is not None
    random = torch.Generator().manual_seed(9)

    def noisy(tensor: Tensor) -> Tensor:
        real = mask.view(*mask.shape, *(1,) * (tensor.ndim - 2))
        return torch.where(real, tensor, 5 * torch.randn(tensor.shape, generator=random, dtype=tensor.dtype))

    y = torch.where(mask, examples.y, (examples.y + 1) % examples.ways) if examples.ways else noisy(examples.y)
    return replace(examples, x=map_inputs(noisy, examples.x), y=y)


def rows(examples: Examples, order: Tensor) -> Examples:
    """Select the examples at these positions of every task, in this order."""
    return replace(
        examples,
        x=map_inputs(lambda tensor: tensor[:, order], examples.x),
        y=examples.y[:, order],
        mask=None if examples.mask is None else examples.mask[:, order],
        sequence=None if examples.sequence is None else examples.sequence[:, order],
    )
