"""Derivatives inside a task: ``torch.autograd`` in a loop over tasks, ``torch.func`` under vmap.

The loop is the definition, and its derivatives come from ``torch.autograd`` alone. Tests hold the two equal in float64.
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
    """Return the same values without a graph."""
    return {name: value.detach() for name, value in params.items()}


class Autodiff(ABC):
    """Gradients and vector-Jacobian products of pure functions of parameter dicts."""

    @abstractmethod
    def gradient(self, loss: Loss, params: Params, *, second_order: bool) -> tuple[Params, Tensor]:
        """Return the gradient of a scalar ``loss`` at ``params`` and the loss; both are differentiable if ``second_order``."""

    @abstractmethod
    def value_and_gradient(self, loss: Callable[[Params], tuple[Tensor, Params]], params: Params) -> tuple[Params, Params]:
        """Return the gradient of a scalar loss and the auxiliary outputs that ``loss`` returns second, both detached."""

    @abstractmethod
    def pull_back(
        self, step: Step, inputs: tuple[Params, Params, Params], cotangents: tuple[Params, Params]
    ) -> tuple[Params, ...]:
        """Return the cotangents of ``step``'s three inputs, given those of its two outputs (a vector-Jacobian product)."""

    @abstractmethod
    def linearized(self, function: Function, at: Params) -> Function:
        """Return the map from a cotangent of ``function``'s output to the cotangent of its input ``at``.

        The map can be called many times. It keeps the graph of one evaluation of ``function`` alive.
        """


class Eager(Autodiff):
    """``torch.autograd``, one task at a time."""

    def gradient(self, loss: Loss, params: Params, *, second_order: bool) -> tuple[Params, Tensor]:
        """See :meth:`Autodiff.gradient`."""
        with torch.enable_grad():
            # A first-order step starts a new graph; in a second-order step, constants still have to become leaves.
            # Views separate the parameters: where one parameter's start was computed from another's (a head from
            # prototypes), the gradient is the partial one, with the other parameters held constant.
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
            value, auxiliary = loss(leaves)
        return _cotangents(({"": value},), (leaves,), ({"": torch.ones_like(value)},), keep_graph=False)[0], detached(auxiliary)

    def pull_back(
        self, step: Step, inputs: tuple[Params, Params, Params], cotangents: tuple[Params, Params]
    ) -> tuple[Params, ...]:
        """See :meth:`Autodiff.pull_back`."""
        with torch.enable_grad():
            leaves = tuple(_leaves(part) for part in inputs)
            outputs = step(*leaves)
        return _cotangents(outputs, leaves, cotangents, keep_graph=False)

    def linearized(self, function: Function, at: Params) -> Function:
        """See :meth:`Autodiff.linearized`."""
        with torch.enable_grad():
            leaves = _leaves(at)
            output = function(leaves)
        return lambda cotangent: _cotangents((output,), (leaves,), (cotangent,), keep_graph=True)[0]


def _leaves(params: Params) -> Params:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _cotangents(
    outputs: tuple[Params, ...], leaves: tuple[Params, ...], cotangents: tuple[Params, ...], *, keep_graph: bool
) -> tuple[Params, ...]:
    """Return the cotangents of ``leaves``, zero where no output depends on them."""
    pairs = [(out[n], cot[n]) for out, cot in zip(outputs, cotangents, strict=True) for n in out if out[n].requires_grad]
    flat = [value for part in leaves for value in part.values()]
    if not pairs:  # nothing depends on the inputs, for example if every adapted tensor starts at zero
        return tuple({name: torch.zeros_like(value) for name, value in part.items()} for part in leaves)
    outs, cots = zip(*pairs, strict=True)
    gradients = torch.autograd.grad(outs, flat, cots, retain_graph=keep_graph, materialize_grads=True, allow_unused=True)
    remaining = iter(gradients)
    return tuple({name: next(remaining) for name in part} for part in leaves)


class Functional(Autodiff):
    """``torch.func``, which composes with vmap and torch.compile."""

    def gradient(self, loss: Loss, params: Params, *, second_order: bool) -> tuple[Params, Tensor]:
        """See :meth:`Autodiff.gradient`."""
        if second_order:
            gradients, value = torch.func.grad_and_value(loss)(dict(params))
            return gradients, value
        with torch.no_grad():  # outer levels do not record the computation; torch.func.grad itself works inside no_grad
            gradients, value = torch.func.grad_and_value(loss)(detached(params))
            return gradients, value

    def value_and_gradient(self, loss: Callable[[Params], tuple[Tensor, Params]], params: Params) -> tuple[Params, Params]:
        """See :meth:`Autodiff.value_and_gradient`."""
        with torch.no_grad():
            gradients, auxiliary = torch.func.grad(loss, has_aux=True)(detached(params))
            return gradients, auxiliary

    def pull_back(
        self, step: Step, inputs: tuple[Params, Params, Params], cotangents: tuple[Params, Params]
    ) -> tuple[Params, ...]:
        """See :meth:`Autodiff.pull_back`."""
        with torch.no_grad():
            pull_back = torch.func.vjp(step, *(detached(part) for part in inputs))[1]
            return tuple(pull_back(cotangents))

    def linearized(self, function: Function, at: Params) -> Function:
        """See :meth:`Autodiff.linearized`."""
        with torch.no_grad():
            pull_back = torch.func.vjp(function, detached(at))[1]

        def apply(cotangent: Params) -> Params:
            with torch.no_grad():
                gradients: Params = pull_back(dict(cotangent))[0]
                return gradients

        return apply
