"""Derivatives inside a task, by plain autograd where tasks are looped over and by torch.func where they are vmapped.

The loop is the definition: its derivatives come from ``torch.autograd`` alone. The two are tested equal in float64.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from metaloop.types import Params

Loss = Callable[[Params], Tensor]
Function = Callable[[Params], Params]
Step = Callable[[Params, Params, Params], tuple[Params, Params]]


def detached(params: Params) -> Params:
    """The same values without a graph."""
    return {name: value.detach() for name, value in params.items()}


class Autodiff(ABC):
    """Gradients and vector-Jacobian products of pure functions of parameter dicts."""

    @abstractmethod
    def gradient(self, loss: Loss, params: Params, *, second_order: bool) -> tuple[Params, Tensor]:
        """The gradient of a scalar ``loss`` at ``params``, and its value; differentiable again where ``second_order``."""

    @abstractmethod
    def value_and_gradient(self, loss: Callable[[Params], tuple[Tensor, Params]], params: Params) -> tuple[Params, Params]:
        """The gradient of a scalar loss, and what the loss returns beside it, both detached."""

    @abstractmethod
    def pull_back(
        self, step: Step, inputs: tuple[Params, Params, Params], cotangents: tuple[Params, Params]
    ) -> tuple[Params, ...]:
        """Cotangents of ``step``'s three inputs from those of its two outputs (a vector-Jacobian product)."""

    @abstractmethod
    def linearised(self, function: Function, at: Params) -> Function:
        """The map from a cotangent of ``function``'s output to that of its input ``at``, for use again and again.

        The graph of one evaluation of ``function`` lives as long as the map.
        """


class Eager(Autodiff):
    """``torch.autograd``, one task at a time."""

    def gradient(self, loss: Loss, params: Params, *, second_order: bool) -> tuple[Params, Tensor]:
        """See :meth:`Autodiff.gradient`."""
        with torch.enable_grad():
            # Adaptation without a second order starts a graph of its own; with it, constants still need to be leaves.
            # A view stands for itself: where one parameter's start was computed from another's (a head from prototypes), the
            # gradient is the partial one, with each of them held.
            leaves = {
                n: p.view_as(p) if second_order and p.requires_grad else p.detach().requires_grad_() for n, p in params.items()
            }
            value = loss(leaves)
            gradients = torch.autograd.grad(
                value, list(leaves.values()), create_graph=second_order, materialize_grads=True, allow_unused=True
            )
        return dict(zip(params, gradients, strict=True)), value if second_order else value.detach()

    def value_and_gradient(self, loss: Callable[[Params], tuple[Tensor, Params]], params: Params) -> tuple[Params, Params]:
        """See :meth:`Autodiff.value_and_gradient`."""
        with torch.enable_grad():
            leaves = _leaves(params)
            value, aside = loss(leaves)
        return _pulled(({"": value},), (leaves,), ({"": torch.ones_like(value)},), keep_graph=False)[0], detached(aside)

    def pull_back(
        self, step: Step, inputs: tuple[Params, Params, Params], cotangents: tuple[Params, Params]
    ) -> tuple[Params, ...]:
        """See :meth:`Autodiff.pull_back`."""
        with torch.enable_grad():
            leaves = tuple(_leaves(part) for part in inputs)
            outputs = step(*leaves)
        return _pulled(outputs, leaves, cotangents, keep_graph=False)

    def linearised(self, function: Function, at: Params) -> Function:
        """See :meth:`Autodiff.linearised`."""
        with torch.enable_grad():
            leaves = _leaves(at)
            output = function(leaves)
        return lambda cotangent: _pulled((output,), (leaves,), (cotangent,), keep_graph=True)[0]


def _leaves(params: Params) -> Params:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _pulled(
    outputs: tuple[Params, ...], leaves: tuple[Params, ...], cotangents: tuple[Params, ...], *, keep_graph: bool
) -> tuple[Params, ...]:
    """The cotangents of ``leaves``, zero where no output depends on them."""
    pairs = [(out[n], cot[n]) for out, cot in zip(outputs, cotangents, strict=True) for n in out if out[n].requires_grad]
    flat = [value for part in leaves for value in part.values()]
    if not pairs:  # nothing depends on the inputs, as when every adapted tensor starts at zero
        return tuple({name: torch.zeros_like(value) for name, value in part.items()} for part in leaves)
    outs, cots = zip(*pairs, strict=True)
    found = torch.autograd.grad(outs, flat, cots, retain_graph=keep_graph, materialize_grads=True, allow_unused=True)
    pulled = iter(found)
    return tuple({name: next(pulled) for name in part} for part in leaves)


class Functional(Autodiff):
    """``torch.func``, which composes with vmap and torch.compile."""

    def gradient(self, loss: Loss, params: Params, *, second_order: bool) -> tuple[Params, Tensor]:
        """See :meth:`Autodiff.gradient`."""
        if second_order:
            gradients, value = torch.func.grad_and_value(loss)(dict(params))
            return gradients, value
        with torch.no_grad():  # hides the computation from outer levels; torch.func.grad itself works inside no_grad
            gradients, value = torch.func.grad_and_value(loss)(detached(params))
            return gradients, value

    def value_and_gradient(self, loss: Callable[[Params], tuple[Tensor, Params]], params: Params) -> tuple[Params, Params]:
        """See :meth:`Autodiff.value_and_gradient`."""
        with torch.no_grad():
            return torch.func.grad(loss, has_aux=True)(detached(params))

    def pull_back(
        self, step: Step, inputs: tuple[Params, Params, Params], cotangents: tuple[Params, Params]
    ) -> tuple[Params, ...]:
        """See :meth:`Autodiff.pull_back`."""
        with torch.no_grad():
            pull = torch.func.vjp(step, *(detached(part) for part in inputs))[1]
            return tuple(pull(cotangents))

    def linearised(self, function: Function, at: Params) -> Function:
        """See :meth:`Autodiff.linearised`."""
        with torch.no_grad():
            pull = torch.func.vjp(function, detached(at))[1]

        def pulled(cotangent: Params) -> Params:
            with torch.no_grad():
                return pull(dict(cotangent))[0]

        return pulled
