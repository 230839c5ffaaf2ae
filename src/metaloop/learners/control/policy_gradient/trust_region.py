"""The trust region of TRPO around adapted policies."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed

from metaloop.errors import UserError
from metaloop.inner.autodiff import detached
from metaloop.learners.control.policy_gradient.replay import Replay
from metaloop.learners.control.policy_gradient.updates import OuterUpdate
from metaloop.types import Params

_SOLVED = 1e-20  # squared length of a residual at which conjugate gradients stop


class TrustRegion(OuterUpdate):
    """TRPO (Schulman et al. 2015) of the adapted policies, as in the experiments of Finn et al. 2017.

    The step goes in the direction ``H^-1 g``, by conjugate gradients, with g the meta-gradient and H the second derivative of
    the mean divergence of the adapted policies; both are taken through the adaptation. It is as long as a quadratic divergence
    of ``limit`` allows, and is shortened until the surrogate is better and the divergence within the limit. If no length will
    do, the parameters stay as they are. All means are over the whole meta-batch, on whatever ranks its tasks are.

    Args:
        limit: most mean divergence of an outer step, in nats a step.
        iterations: conjugate gradient steps.
        damping: added to the diagonal of H.
        shrink: factor by which a step is shortened.
        tries: lengths that are tried.
    """

    whole_step = True

    def __init__(self, limit: float, iterations: int, damping: float, shrink: float, tries: int) -> None:
        rules = {
            "limit": (limit, limit > 0, "above 0"),
            "iterations": (iterations, iterations >= 1, "at least 1"),
            "damping": (damping, damping >= 0, "at least 0"),
            "shrink": (shrink, 0 < shrink < 1, "between 0 and 1"),
            "tries": (tries, tries >= 1, "at least 1"),
        }
        for name, (value, allowed, rule) in rules.items():
            if not allowed:
                raise UserError(f"algorithm.outer_update.{name}={value}: {rule}")
        self.limit = limit
        self.iterations = iterations
        self.damping = damping
        self.shrink = shrink
        self.tries = tries

    def gradient(self, replay: Replay, meta: Params) -> Params:
        """See :meth:`OuterUpdate.gradient`."""
        start = detached(meta)
        leaves = {name: value.clone().requires_grad_() for name, value in start.items()}
        with torch.enable_grad():
            losses, divergence = _measured(replay, leaves)
            slope = mean_over_ranks(_flat(_gradients(losses.mean(), leaves, keep=True)))
            rising = _flat(_gradients(divergence.mean(), leaves, keep=True, create=True))

        def curvature(vector: Tensor) -> Tensor:
            if not rising.requires_grad:  # no parameter changes the policies
                return self.damping * vector
            product = _flat(_gradients((rising * vector).sum(), leaves, keep=True))
            return mean_over_ranks(product) + self.damping * vector

        direction = conjugate_gradient(curvature, slope, self.iterations)
        size = _dot(direction, curvature(direction))
        if not size > 0:
            return {name: torch.zeros_like(value) for name, value in start.items()}
        step = (2 * self.limit / size) ** 0.5 * direction
        return self._searched(replay, start, step, losses.detach())

    def _searched(self, replay: Replay, start: Params, step: Tensor, losses: Tensor) -> Params:
        """Shorten the step until it improves the loss within the limit."""
        before = mean_over_ranks(losses.mean())
        for number in range(self.tries):
            part = _unflat(self.shrink**number * step, start)
            with torch.no_grad():
                tried, divergence = _measured(replay, {name: value - part[name] for name, value in start.items()})
            loss, moved = mean_over_ranks(torch.stack([tried.mean(), divergence.mean()])).tolist()
            if loss < before and moved <= self.limit:
                return part
        return _unflat(0 * step, start)


def _measured(replay: Replay, meta: Params) -> tuple[Tensor, Tensor]:
    """Surrogate loss and divergence of each task's adapted policies, (tasks,) each."""
    visits = replay.after(meta, replay.iterates(meta))
    losses = [-visit.weight * (visit.log_ratio.exp() * visit.experience.advantages).mean(1) for visit in visits]
    divergences = [visit.weight * replay.divergence(visit) for visit in visits]
    return torch.stack(losses).sum(0), torch.stack(divergences).sum(0)


def conjugate_gradient(product: Callable[[Tensor], Tensor], right: Tensor, iterations: int) -> Tensor:
    """Solve ``A x = right`` approximately for a positive definite A, from products with it."""
    x, residual = torch.zeros_like(right), right.clone()
    direction, square = residual.clone(), _dot(residual, residual)
    for _ in range(iterations):
        if square < _SOLVED:
            break
        along = product(direction)
        rate = square / _dot(direction, along)
        x, residual = x + rate * direction, residual - rate * along
        new = _dot(residual, residual)
        direction, square = residual + new / square * direction, new
    return x


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean of a tensor over the ranks of a distributed run, which all call this."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _gradients(value: Tensor, leaves: Params, *, keep: bool, create: bool = False) -> Params:
    gradients = torch.autograd.grad(
        value, list(leaves.values()), retain_graph=keep, create_graph=create, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, gradients, strict=True))


def _flat(values: Params) -> Tensor:
    return torch.cat([value.flatten() for value in values.values()])


def _unflat(vector: Tensor, like: Params) -> Params:
    parts = torch.split(vector, [value.numel() for value in like.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}


def _dot(first: Tensor, second: Tensor) -> float:
    return float(first.double() @ second.double())
