"""Meta-batches as ordinary batches of all meta-training classes, for learners that are trained by classification."""

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.gradient.functional_model import joined, joined_masks
from metaloop.problems.task_loss import TaskLoss, mean_over_real, restricted
from metaloop.types import Examples, Tasks


def together(tasks: Tasks, *, by_split: bool) -> Examples:
    """Support and query examples together, (tasks, examples).

    With ``by_split`` classes have their number in the split, else that in their task (or values stay as they are).

    Raises:
        UserError: the tasks do not name their classes.
    """
    support, query = tasks.support, tasks.query
    y = torch.cat([support.y, query.y], 1)
    if by_split:
        y = _classes_of(tasks).gather(1, y).clamp(min=0)  # padding may name a class that its task does not have
    mask = joined_masks([support.mask, query.mask], [support.y.shape[1], query.y.shape[1]])
    return Examples(joined(support.x, query.x, axis=1), y, mask, support.ways)


def losses_by_task(loss: TaskLoss, outputs: Tensor, examples: Examples) -> Tensor:
    """(tasks,) mean losses of ``outputs`` (tasks x examples, *output), which were computed as one batch."""
    flat = examples.map(lambda tensor: tensor.flatten(0, 1))
    each = loss.each(outputs, flat).unflatten(0, examples.y.shape[:2])
    masks = [None] * len(each) if examples.mask is None else examples.mask
    return torch.stack([mean_over_real(task, mask) for task, mask in zip(each, masks, strict=True)])


def of_own_classes(logits: Tensor, tasks: Tasks) -> Tensor:
    """(tasks, queries, ways) out of logits (tasks, queries, classes) of all classes of the split."""
    classes = _classes_of(tasks)[:, None]
    own = logits.gather(-1, classes.clamp(min=0).expand(-1, logits.shape[1], -1))
    return restricted(own, classes >= 0)


def _classes_of(tasks: Tasks) -> Tensor:
    if tasks.classes is None:
        raise UserError(
            "the data set says how many classes it has (num_classes), but its tasks do not name theirs (Tasks.classes)"
        )
    return tasks.classes
