"""A check of a learner on the first episodes: what stands in their padding must change no answer."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.execution.over_tasks import Loop
from metaloop.learners.learner import Learner
from metaloop.types import Examples, Tasks, map_inputs

_SAME = 1e-3  # difference of answers, relative to the largest, that counts as rounding in any precision


def check_padding(learner: Learner, tasks: Tasks) -> None:
    """Adapt to the support set of one task twice, with other values in its padding, and compare the answers.

    Nothing is left behind. Meta-batches without padding are not checked.

    Args:
        learner: A learner.
        tasks: A meta-batch.

    Raises:
        UserError: The answers differ, so the learner counts examples that do not exist.
    """
    mask = tasks.support.mask
    if mask is None or bool(mask.all()):
        return
    first = int((~mask.all(-1)).nonzero()[0])
    task = tasks[first : first + 1]
    training = {module: module.training for module in learner.modules()}
    tried = copy.copy(learner)  # with parameters in common, but an execution of its own, which chooses and keeps nothing
    tried.over_tasks = Loop()
    tried.eval()
    try:
        answers, others = _answers(tried, task.support, task.query), _answers(tried, _repeated(task.support), task.query)
    finally:
        for module, mode in training.items():
            module.training = mode
    if (answers - others).abs().max() > _SAME * answers.abs().max().clamp(min=1):
        raise UserError(
            f"algorithm: the answers of {type(learner).__qualname__} change with what stands in the padding of episodes of "
            f"different sizes, so it counts examples that do not exist: use support.mask (metaloop.testing.check_learner shows "
            f"how), or give episode.ways and episode.shots one number"
        )


def _answers(learner: Learner, support: Examples, query: Examples) -> Tensor:
    """Answers to the real queries of one task."""
    devices = [support.y.device] if support.y.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(0)
        answers = learner.adapt(support)(query.x, query.mask)
    return (answers if query.mask is None else answers[query.mask]).float()


def _repeated(support: Examples) -> Examples:
    """Put the first real example into all padding, with other labels."""
    mask = support.mask
    assert mask is not None
    real = int(mask[0].nonzero()[0])

    def repeated(tensor: Tensor) -> Tensor:
        return torch.where(mask.view(*mask.shape, *(1,) * (tensor.ndim - 2)), tensor, tensor[:, real : real + 1])

    y = torch.where(mask, support.y, (support.y + 1) % support.ways) if support.ways else repeated(support.y)
    return replace(support, x=map_inputs(repeated, support.x), y=y)
