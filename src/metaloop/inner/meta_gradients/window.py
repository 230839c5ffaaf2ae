"""A stretch of consecutive inner steps, and the query losses that the objective sees on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params


@dataclass
class Seen:
    """The query losses (scalars), their weights, and the logits, at the iterates that count, in the order of the steps."""

    weights: list[float] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def total(self) -> Tensor:
        """The weighted sum of the losses, of which there is at least one."""
        return torch.stack([weight * loss for weight, loss in zip(self.weights, self.losses, strict=True)]).sum()


def stretch(
    problem: InnerProblem,
    meta: Params,
    support: Examples,
    query: Examples,
    span: range,
    autodiff: Autodiff,
    *,
    exact_from: int,
    at: tuple[Params, Params] | None = None,
) -> tuple[Seen, tuple[Params, Params]]:
    """Take the steps of ``span``; what the objective sees after each of them (and before the first, from the start on).

    Args:
        problem: how tasks adapt.
        meta: all meta-parameters.
        support: of one task.
        query: of the same task.
        span: numbers of the steps to take.
        autodiff: derivatives that work here.
        exact_from: from this step on inner gradients are differentiated, before it they are constants.
        at: iterate and rule state before the first step; None for the task's start, which then counts, too.

    Returns:
        What was seen, and the last iterate and state.
    """
    path = problem.walk(meta, support, span, autodiff, exact_from=exact_from, at=at)
    seen, end = Seen(), at
    if at is not None:
        next(path)  # the stretch before has seen it
    for point, end in enumerate(path, span.start if at is None else span.start + 1):
        if problem.weights[point]:
            loss, logits = problem.task.query_loss(meta, end[0], support, query)
            seen.weights.append(problem.weights[point])
            seen.losses.append(loss)
            seen.logits.append(logits)
    assert end is not None
    return seen, end


def spans(steps: int, length: int) -> Iterator[range]:
    """``steps`` inner steps cut into windows of ``length``, the last one the rest; one empty window for no steps."""
    for first in range(0, max(steps, 1), length):
        yield range(first, min(first + length, steps))
