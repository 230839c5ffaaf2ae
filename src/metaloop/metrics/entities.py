"""Entity F1: how many entities of labelled sequences are found exactly, with their type. seqeval says what an entity is."""

import torch
from torch import Tensor

from metaloop.errors import UserError

COUNTS = ("entities_right", "entities_said", "entities_there")


def counts(said: Tensor, labels: Tensor, sequence: Tensor, mask: Tensor | None = None) -> Tensor:
    """(tasks, 3) int64: entities that were rightly said, that were said at all, and that there are; see :data:`COUNTS`.

    Neighbours with one label in one sequence are an entity.

    Args:
        said: (tasks, examples) predicted labels; 0 is none.
        labels: (tasks, examples) true ones.
        sequence: (tasks, examples) which sequence an example is of.
        mask: (tasks, examples) bool, which examples are real; None where all are.

    Raises:
        UserError: seqeval is not installed.
    """
    real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    found = []
    for task in zip(said.cpu(), labels.cpu(), sequence.cpu(), real.cpu(), strict=True):
        guesses, truths, parts = (values[task[3]].tolist() for values in task[:3])
        guessed, true = _entities(guesses, parts), _entities(truths, parts)
        found.append([len(guessed & true), len(guessed), len(true)])
    return torch.tensor(found, device=labels.device).view(-1, 3)


def _entities(labels: list[int], sequence: list[int]) -> set[tuple[str, int, int]]:
    """Type, first and last place of each."""
    try:
        from seqeval.metrics.sequence_labeling import get_entities
    except ImportError as error:
        raise UserError("entity F1 needs seqeval: pip install 'metaloop[text]'") from error
    tags: list[str] = []
    for place, label in enumerate(labels):
        if place and sequence[place] != sequence[place - 1]:
            tags.append("O")  # an entity ends with its sequence
        tags.append(f"I-{label}" if label else "O")
    return set(get_entities(tags))


def f1(found: Tensor) -> Tensor:
    """(tasks,) micro-averaged F1 in [0, 1] of :func:`counts` (tasks, 3); 0 where there is no entity."""
    right, said, there = found.to(torch.get_default_dtype()).unbind(-1)
    return 2 * right / (said + there).clamp(min=1)


def pooled_f1(found: Tensor) -> Tensor:
    """(tasks,) values whose mean is the micro F1 over the entities of all episodes, as the field reports it.

    Their interval is that F1's: each is the pooled F1 plus what its episode adds to it in first order (the delta method for a
    ratio of means; Cochran 1977, "Sampling techniques", section 6.4).

    Args:
        found: (tasks, 3) of :func:`counts`.
    """
    right, said, there = found.double().unbind(-1)
    total = (said + there).mean().clamp(min=1e-12)
    pooled = 2 * right.mean() / total
    return pooled + (2 * right - pooled * (said + there)) / total
