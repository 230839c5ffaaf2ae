"""The usual optimisers of deep learning as differentiable inner rules without meta-parameters.

In float64 they equal ``torch.optim``. Their state starts at zero in every task.
"""

import math

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.rules.rule import InnerRule, checked_rate
from metaloop.inner.rules.shaping import GradientShaping
from metaloop.types import Params


def _share(key: str, value: float) -> float:
    if not 0 <= value < 1:
        raise UserError(f"algorithm.rule.{key}={value}: at least 0 and below 1")
    return value


def _zeros(params: Params, prefix: str) -> Params:
    return {prefix + name: torch.zeros_like(value) for name, value in params.items()}


def _complement(share: float, count: Tensor) -> Tensor:
    """Return ``1 - share ** count`` without cancellation in single precision."""
    return -torch.expm1(count * math.log(share)) if share else torch.ones_like(count)


class Momentum(InnerRule):
    """``v <- m v + (1 - d) g``, ``p <- p - lr v`` (Polyak 1964's heavy ball), or Nesterov's ``p <- p - lr (g + m v)``.

    Nesterov's form is that of Sutskever et al. 2013, rewritten as in torch so that ``p`` is the point of the gradient.

    Args:
        params: the adapted parameters.
        lr: learning rate, above 0.
        momentum: ``m`` in [0, 1).
        dampening: ``d`` in [0, 1); the first step is spared it, as in torch.
        nesterov: whether to use Nesterov's form.
        weight_decay: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
        max_norm: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        momentum: float,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        dampening: float = 0.0,
    ) -> None:
        super().__init__(params)
        self.lr = checked_rate(lr)
        self.momentum, self.dampening = _share("momentum", momentum), _share("dampening", dampening)
        if nesterov and dampening:
            raise UserError(f"algorithm.rule.dampening={dampening}: Nesterov's form has none; set it to 0")
        self.nesterov = nesterov
        self.shaped = GradientShaping(weight_decay, max_norm)

    def init(self, params: Params) -> Params:
        """Return a velocity of zero."""
        return _zeros(params, "velocity:")

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        gradients = self.shaped(gradients, params)
        share = 1 - self.dampening if step else 1.0
        velocity = {n: self.momentum * state["velocity:" + n] + share * g for n, g in gradients.items()}
        moves = {n: gradients[n] + self.momentum * v for n, v in velocity.items()} if self.nesterov else velocity
        after = {n: value - self.lr * moves[n] for n, value in params.items()}
        return after, {"velocity:" + n: v for n, v in velocity.items()}


class _Root:
    """The divisor ``sqrt(v + eps_root) + eps`` of a second moment ``v``.

    torch adds only ``eps``, outside the root. The root's slope is infinite if a parameter's gradient was always exactly zero
    (behind a dead ReLU), and the meta-gradient is then NaN. ``eps_root`` inside the root makes it finite; at 1e-12 it changes
    moves of gradients above 1e-4 by less than a ten-thousandth. In the first step, Adam's move as a function of a gradient near
    zero has the slope ``1 / (sqrt(eps_root) + eps)``: raise ``eps_root`` if meta-gradients blow up.
    """

    def __init__(self, eps: float, eps_root: float) -> None:
        if not eps >= 0:
            raise UserError(f"algorithm.rule.eps={eps}: at least 0")
        if not eps_root > 0:
            raise UserError(f"algorithm.rule.eps_root={eps_root}: above 0; at 0 a zero gradient has no second derivative")
        self.eps = eps
        self.eps_root = eps_root

    def __call__(self, second: Tensor) -> Tensor:
        return (second + self.eps_root).sqrt() + self.eps


class Adam(InnerRule):
    """Adam (Kingma and Ba 2015, algorithm 1): ``p <- p - lr m / (sqrt(v + eps_root) + eps)`` with bias-corrected moments.

    ``weight_decay`` is added to the gradient as in torch's Adam, not decoupled as in AdamW.

    Args:
        params: the adapted parameters.
        lr: learning rate, above 0.
        beta1: decay of the mean gradient ``m``, in [0, 1).
        beta2: decay of the mean square ``v``, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, above 0; see :class:`_Root` for the reason.
        weight_decay: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
        max_norm: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        eps_root: float = 1e-12,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params)
        self.lr = checked_rate(lr)
        self.beta1, self.beta2 = _share("beta1", beta1), _share("beta2", beta2)
        self.root = _Root(eps, eps_root)
        self.shaped = GradientShaping(weight_decay, max_norm)

    def init(self, params: Params) -> Params:
        """Return the moments, at zero, and the number of steps that they have seen; with ``beta1`` 0 there is no first one."""
        count = torch.zeros_like(next(iter(params.values())).flatten()[0])
        first = _zeros(params, "first:") if self.beta1 else {}
        return {**first, **_zeros(params, "second:"), "count": count}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        gradients = self.shaped(gradients, params)
        count = state["count"] + 1  # not the step's number: a state may be kept from one task to the next
        seconds = {
            n: torch.addcmul(self.beta2 * state["second:" + n], g, g, value=1 - self.beta2) for n, g in gradients.items()
        }
        unbiased = _complement(self.beta2, count)
        roots = {n: self.root(value / unbiased) for n, value in seconds.items()}
        moments = {"second:" + n: value for n, value in seconds.items()} | {"count": count}
        if not self.beta1:
            return {n: torch.addcdiv(value, gradients[n], roots[n], value=-self.lr) for n, value in params.items()}, moments
        firsts = {n: self.beta1 * state["first:" + n] + (1 - self.beta1) * g for n, g in gradients.items()}
        rate = self.lr / _complement(self.beta1, count)
        after = {n: value - rate * firsts[n] / roots[n] for n, value in params.items()}
        return after, moments | {"first:" + n: value for n, value in firsts.items()}


class RMSprop(InnerRule):
    """``v <- a v + (1 - a) g^2``, ``p <- p - lr g / (sqrt(v + eps_root) + eps)`` (Tieleman and Hinton 2012, lecture 6.5).

    Args:
        params: the adapted parameters.
        lr: learning rate, above 0.
        alpha: decay ``a`` of the mean square, in [0, 1).
        eps: added to the root, at least 0.
        eps_root: added inside the root, above 0; see :class:`_Root` for the reason.
        weight_decay: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
        max_norm: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        eps_root: float = 1e-12,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        super().__init__(params)
        self.lr = checked_rate(lr)
        self.alpha = _share("alpha", alpha)
        self.root = _Root(eps, eps_root)
        self.shaped = GradientShaping(weight_decay, max_norm)

    def init(self, params: Params) -> Params:
        """Return the mean square, at zero."""
        return _zeros(params, "second:")

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        gradients = self.shaped(gradients, params)
        second = {n: self.alpha * state["second:" + n] + (1 - self.alpha) * g**2 for n, g in gradients.items()}
        after = {n: value - self.lr * gradients[n] / self.root(second[n]) for n, value in params.items()}
        return after, {"second:" + n: v for n, v in second.items()}


class SignDescent(InnerRule):
    """``p <- p - lr sign(g)`` (Sign-MAML, Fan et al. 2021).

    The sign's derivative is zero almost everywhere, so no Hessian enters and the first-order meta-gradient is exact. Use
    ``algorithm/meta_gradient=first_order``, which costs a third of the unrolled one and equals it.

    Args:
        params: the adapted parameters.
        lr: distance that every number moves in a step, above 0.
    """

    def __init__(self, params: Params, lr: float) -> None:
        super().__init__(params)
        self.lr = checked_rate(lr)

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        return {name: value - self.lr * gradients[name].sign() for name, value in params.items()}, state
