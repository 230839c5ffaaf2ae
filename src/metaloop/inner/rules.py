"""How one inner step is taken, and what of it is itself meta-learned."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.types import Params


class InnerRule(nn.Module, ABC):
    """A differentiable optimiser for one task. Its ``nn.Parameter`` s are meta-parameters.

    A rule is built for the parameters that it will change: every member's constructor takes ``params`` first.
    Its state is a flat mapping of tensors, so that it can be stacked over tasks and swept back through.
    """

    @abstractmethod
    def init(self, params: Params) -> Params:
        """The state before the first step."""

    @abstractmethod
    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """One inner step.

        Args:
            gradients: of the support loss at ``params``, by the same names.
            state: of :meth:`init` or of the step before.
            params: the current iterate; not mutated.
            step: counts from 0.
            loss: the support loss at ``params``, a scalar; most rules have no use for it.

        Returns:
            The next iterate and state.
        """


def _checked_rate(lr: float) -> float:
    if not lr > 0:
        raise UserError(f"algorithm.rule.lr={lr}: the inner learning rate must be above 0")
    return float(lr)


class GradientDescent(InnerRule):
    """``p <- p - lr g`` (Finn et al. 2017, equation 1)."""

    def __init__(self, params: Params, lr: float) -> None:
        super().__init__()
        if not params:
            raise UserError("algorithm.adapted selects no parameter of the model, so there is nothing to adapt")
        self.lr = _checked_rate(lr)

    def init(self, params: Params) -> Params:
        """Plain descent keeps nothing."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        return {name: value - self.lr * gradients[name] for name, value in params.items()}, state


GRANULARITIES = ("tensor", "element")


class LearnedRate(InnerRule):
    """``p <- p - a * g`` with meta-learned rates ``a``.

    Per element it is Meta-SGD (Li et al. 2017, equation 2), whose authors start the rates at random in [0.005, 0.1]; ours
    all start at ``lr``, so that training starts as MAML. Rates are not kept positive; the paper allows negative ones, too.

    Args:
        params: the adapted parameters.
        lr: the rates' common start.
        granularity: "tensor" (one rate a parameter tensor) or "element" (one each number).
    """

    def __init__(self, params: Params, lr: float, granularity: str) -> None:
        super().__init__()
        if granularity not in GRANULARITIES:
            raise UserError(f"algorithm.rule.granularity={granularity!r}: one of {', '.join(GRANULARITIES)}")
        if not params:
            raise UserError("algorithm.adapted selects no parameter of the model, so there is nothing to adapt")
        start = _checked_rate(lr)
        shapes = {n: p.shape if granularity == "element" else torch.Size() for n, p in params.items()}
        self.rates = nn.ParameterDict(
            {_key(n): nn.Parameter(torch.full(shape, start, dtype=params[n].dtype)) for n, shape in shapes.items()}
        )

    def init(self, params: Params) -> Params:
        """Nothing is kept between steps."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        return {name: value - self.rates[_key(name)] * gradients[name] for name, value in params.items()}, state


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ParameterDict allows no dots
