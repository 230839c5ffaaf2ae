"""A stretch of consecutive inner steps and the query losses that the objective counts on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.problem import InnerProblem
from metaloop.types import Examples, Params


@dataclass
class QueryLosses:
    """Query losses (scalars), their weights, and the logits at the iterates that count, in the order of the steps."""

    weights: list[float] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def total(self) -> Tensor:
        """Return the weighted sum of the losses; there must be at least one."""
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
) -> tuple[QueryLosses, tuple[Params, Params]]:
    """Take the steps of ``span`` and collect the query losses that the objective counts after them.

    Args:
        problem: the inner problem.
        meta: all meta-parameters.
        support: support set of one task.
        query: query set of the same task.
        span: numbers of the steps to take.
        autodiff: derivatives for the execution at hand.
        exact_from: first step whose inner gradient is differentiated; earlier inner gradients are constants.
        at: iterate and rule state before the first step; None for the task's start, whose query loss may then count, too.

    Returns:
        The query losses that count, and the last iterate and rule state.
    """
    path = problem.walk(meta, support, span, autodiff, exact_from=exact_from, at=at)
    counted, end = QueryLosses(), at
    if at is not None:
        next(path)  # the stretch before has counted it
    for point, end in enumerate(path, span.start if at is None else span.start + 1):
        if problem.weights[point]:
            loss, logits = problem.task.query_loss(meta, end[0], support, query, point)
            counted.weights.append(problem.weights[point])
            counted.losses.append(loss)
            counted.logits.append(logits)
    assert end is not None
    return counted, end


def spans(steps: int, length: int) -> Iterator[range]:
    """Cut ``steps`` inner steps into windows of ``length``, the last may be shorter; no steps give one empty window."""
    for first in range(0, max(steps, 1), length):
        yield range(first, min(first + length, steps))
