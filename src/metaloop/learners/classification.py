"""Treat a meta-batch as one ordinary batch over all meta-training classes, for learners trained by classification."""

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.gradient.functional_model import joined, joined_masks
from metaloop.problems.task_loss import TaskLoss, mean_over_real, restricted
from metaloop.types import Examples, Tasks


def support_and_query(tasks: Tasks, *, by_split: bool) -> Examples:
    """Concatenate each task's support and query examples: (tasks, examples).

    Args:
        tasks: a meta-batch.
        by_split: label examples with the class's number in the split; otherwise labels (or targets) stay as they are.

    Raises:
        UserError: ``by_split`` is set and the tasks do not carry class numbers.
    """
    support, query = tasks.support, tasks.query
    y = torch.cat([support.y, query.y], 1)
    if by_split:
        y = _class_numbers(tasks).gather(1, y).clamp(min=0)  # padding may have the label of an absent class, which is -1
    mask = joined_masks([support.mask, query.mask], [support.y.shape[1], query.y.shape[1]])
    return Examples(joined(support.x, query.x, axis=1), y, mask, support.ways)


def losses_by_task(loss: TaskLoss, outputs: Tensor, examples: Examples) -> Tensor:
    """Average the losses of ``outputs`` (tasks x examples, *output), computed as one batch, over each task: (tasks,)."""
    flat = examples.map(lambda tensor: tensor.flatten(0, 1))
    each = torch.unflatten(loss.each(outputs, flat), 0, examples.y.shape[:2])
    masks = [None] * len(each) if examples.mask is None else examples.mask
    return torch.stack([mean_over_real(task, mask) for task, mask in zip(each, masks, strict=True)])


def logits_of_task_classes(logits: Tensor, tasks: Tasks) -> Tensor:
    """Select each task's classes, (tasks, queries, ways), from logits (tasks, queries, classes) of all the split's classes."""
    classes = _class_numbers(tasks)[:, None]
    selected = logits.gather(-1, classes.clamp(min=0).expand(-1, logits.shape[1], -1))
    return restricted(selected, classes >= 0)


def _class_numbers(tasks: Tasks) -> Tensor:
    if tasks.classes is None:
        raise UserError(
            "dataset: its tasks have no class numbers (Tasks.classes), which training by classification needs; a data set with "
            "num_classes must set them"
        )
    return tasks.classes
