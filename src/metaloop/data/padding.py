"""Padding of episodes that differ in size: zeros, so that a learner that ignores masks gains nothing by it."""

from dataclasses import replace

from torch import Tensor

from metaloop.types import Examples, Inputs, Tasks

_TOKENS = "attention_mask"  # of texts: a text without any token would leave attention with nothing to weigh


def blank_padding(tasks: Tasks) -> Tasks:
    """Set inputs and targets in the padding of support and query to zero; class numbers stay.

    The text of a padded example becomes its first token alone, with the id zero.
    """
    if tasks.support.mask is None and tasks.query.mask is None:
        return tasks
    support, query = _blank(tasks.support), _blank(tasks.query)
    if support.unlabelled is not None and support.unlabelled_mask is not None:
        support = replace(support, unlabelled=_blank_inputs(support.unlabelled, support.unlabelled_mask))
    return replace(tasks, support=support, query=query)


def _blank(examples: Examples) -> Examples:
    mask = examples.mask
    if mask is None:
        return examples
    y = examples.y if examples.ways else _zeros(examples.y, mask)
    return replace(examples, x=_blank_inputs(examples.x, mask), y=y)


def _blank_inputs(x: Inputs, mask: Tensor) -> Inputs:
    if isinstance(x, Tensor):
        return _zeros(x, mask)
    blank = {name: _zeros(value, mask) for name, value in x.items()}
    if _TOKENS in blank:
        blank[_TOKENS][..., 0] = 1
    return blank


def _zeros(tensor: Tensor, mask: Tensor) -> Tensor:
    """A copy with zeros where ``mask`` (tasks, examples) is false; ``tensor`` is (tasks, examples, ...)."""
    return tensor.masked_fill(~mask.view(*mask.shape, *(1,) * (tensor.ndim - mask.ndim)), 0)
