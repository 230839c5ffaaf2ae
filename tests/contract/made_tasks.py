"""Small synthetic tasks and models in float64, and gradients for the contract tests."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from members import CLASSES, MODELS, OF_TEXTS
from torch import Tensor, nn

from metaloop.learners.learner import Learner
from metaloop.types import Examples, Inputs, Params, Tasks

WAYS = 3


def made_inputs(shape: tuple[int, ...], examples: tuple[int, ...], *, text: bool, random: torch.Generator) -> Inputs:
    """Make normal random inputs, or token ids with attention masks of varying length."""
    if not text:
        return torch.randn(*examples, *shape, generator=random, dtype=torch.float64)
    lengths = torch.randint(2, shape[0] + 1, (*examples, 1), generator=random)
    return {
        "input_ids": torch.randint(0, 20, (*examples, *shape), generator=random),
        "attention_mask": (torch.arange(shape[0]) < lengths).long(),
    }


def made_tasks(
    model: str = "conv4, stride", *, tasks: int = 3, shots: int = 2, queries: int = 2, masked: bool = False, unlabelled: int = 0
) -> Tasks:
    """Make three-way tasks; ``masked`` removes one support example of task 0 and the last class of task 1.

    There are ``unlabelled`` unlabelled examples in each task; ``masked`` removes the last one of task 1.
    """
    random = torch.Generator().manual_seed(1)

    def examples(count: int) -> Examples:
        y = torch.arange(WAYS).repeat_interleave(count).expand(tasks, -1).contiguous()
        mask = torch.ones_like(y, dtype=torch.bool) if masked else None
        if mask is not None:
            mask[1, -count:] = False
        x = made_inputs(MODELS[model][0], tuple(y.shape), text=model in OF_TEXTS, random=random)
        return Examples(x, y, mask, WAYS)

    support, query = examples(shots), examples(queries)
    if support.mask is not None:
        support.mask[0, shots - 1] = False
    if unlabelled:
        inputs = made_inputs(MODELS[model][0], (tasks, unlabelled), text=model in OF_TEXTS, random=random)
        real = torch.ones(tasks, unlabelled, dtype=torch.bool) if masked else None
        if real is not None:
            real[1, -1] = False
        support = replace(support, unlabelled=inputs, unlabelled_mask=real)
    classes = (torch.arange(tasks)[:, None] + torch.arange(WAYS)) % CLASSES
    if masked:
        classes[1, -1] = -1
    return Tasks(support, query, torch.arange(tasks), classes)


def made_model(model: str = "conv4, stride", *, norm: str = "batch", outputs: int | None = WAYS) -> nn.Module:
    """Build a model of the table in float64 from a fixed seed, with norms and biases moved from their initial values."""
    torch.manual_seed(3)
    shape, build = MODELS[model]
    built = build(shape, outputs, norm).double()
    with torch.no_grad():
        for name, value in built.named_parameters():
            if "norm" in name.lower() or name.endswith("bias"):
                value.add_(0.2 * torch.randn_like(value))
    return built


def meta_gradient(learner: Learner, tasks: Tasks) -> tuple[Tensor, Params]:
    """Compute the meta-loss, and the meta-gradient by name."""
    learner.zero_grad()
    outcome = learner.meta_loss(tasks)
    outcome.loss.backward()
    zero = torch.zeros(())
    return outcome.loss.detach(), {n: zero if p.grad is None else p.grad.clone() for n, p in learner.named_parameters()}


def distance(left: Params, right: Params) -> float:
    """Compute the relative distance of two gradients as vectors."""
    assert left.keys() == right.keys()
    squares = sum(float(((left[n] - right[n]) ** 2).sum()) for n in left)
    return math.sqrt(squares / sum(float((value**2).sum()) for value in right.values()))


def central_difference(value: Callable[[], float], parameters: Params, direction: Params, size: float) -> float:
    """Estimate the derivative of ``value`` along ``direction``, moving the parameters and restoring them."""

    def value_after_move(by: float) -> float:
        for name, parameter in parameters.items():
            parameter.data.add_(direction[name], alpha=by)
        return value()

    above, below = value_after_move(size), value_after_move(-2 * size)
    value_after_move(size)
    return (above - below) / (2 * size)


def random_direction(parameters: Params, seed: int) -> Params:
    """Draw a normal random direction."""
    random = torch.Generator().manual_seed(seed)
    return {n: torch.randn(p.shape, generator=random, dtype=p.dtype) for n, p in parameters.items()}


def along(gradient: Params, direction: Params) -> float:
    """Compute the inner product of a gradient and a direction."""
    return sum(float((gradient[n] * direction[n]).sum()) for n in direction)
