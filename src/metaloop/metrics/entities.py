"""Entity F1 of labelled sequences: an entity counts as correct if its type and both its ends are. seqeval defines an entity."""

import torch
from torch import Tensor

from metaloop.errors import UserError

COUNTS = ("entities_right", "entities_said", "entities_there")  # correct, predicted and true entities: keys of episodes.csv


def counts(predictions: Tensor, labels: Tensor, sequence: Tensor, mask: Tensor | None = None) -> Tensor:
    """Count the correctly predicted, the predicted and the true entities of every task, in the order of :data:`COUNTS`.

    Neighbouring examples with the same label in the same sequence form one entity.

    Args:
        predictions: (tasks, examples) predicted labels; 0 means no entity.
        labels: (tasks, examples) true labels; 0 means no entity.
        sequence: (tasks, examples) number of the sequence that an example belongs to.
        mask: (tasks, examples) bool, True for real examples; None if all are real.

    Returns:
        (tasks, 3) int64.

    Raises:
        UserError: seqeval is not installed.
    """
    real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    result = []
    for task in zip(predictions.cpu(), labels.cpu(), sequence.cpu(), real.cpu(), strict=True):
        task_predictions, task_labels, task_sequence = (values[task[3]].tolist() for values in task[:3])
        predicted, true = _entities(task_predictions, task_sequence), _entities(task_labels, task_sequence)
        result.append([len(predicted & true), len(predicted), len(true)])
    return torch.tensor(result, device=labels.device).view(-1, 3)


def _entities(labels: list[int], sequence: list[int]) -> set[tuple[str, int, int]]:
    """Type, first and last position of each entity."""
    try:
        from seqeval.metrics.sequence_labeling import get_entities
    except ImportError as error:
        raise UserError("entity F1 needs seqeval: pip install 'metaloop[text]'") from error
    tags: list[str] = []
    for position, label in enumerate(labels):
        if position and sequence[position] != sequence[position - 1]:
            tags.append("O")  # an entity ends with its sequence
        tags.append(f"I-{label}" if label else "O")
    return set(get_entities(tags))


def f1(entity_counts: Tensor) -> Tensor:
    """Compute the micro-averaged F1 of every task.

    Args:
        entity_counts: (tasks, 3), from :func:`counts`.

    Returns:
        (tasks,) in [0, 1]; 0 for a task without entities.
    """
    correct, predicted, true = entity_counts.to(torch.get_default_dtype()).unbind(-1)
    return 2 * correct / (predicted + true).clamp(min=1)


def pooled_f1(entity_counts: Tensor) -> Tensor:
    """Compute one value a task, whose mean is the micro F1 over the entities of all episodes, as papers report it.

    The confidence interval of the values is the interval of that F1. Each value is the pooled F1 plus the first-order
    influence of its episode (the delta method for a ratio of means; Cochran 1977, "Sampling techniques", section 6.4).

    Args:
        entity_counts: (tasks, 3), from :func:`counts`.

    Returns:
        (tasks,) float64.
    """
    correct, predicted, true = entity_counts.double().unbind(-1)
    total = (predicted + true).mean().clamp(min=1e-12)
    pooled = 2 * correct.mean() / total
    return pooled + (2 * correct - pooled * (predicted + true)) / total
