"""Gradient descent whose rate depends on the number of the step."""

from collections.abc import Sequence

from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.rules.rule import InnerRule, checked_rate
from metaloop.types import Params


class ScheduledDescent(InnerRule):
    """``p <- p - lr_k g`` in step k. Finn et al. 2017 halve the rate of policy gradients after the first step.

    Args:
        params: the adapted parameters.
        rates: rates of the steps, above 0; later steps have the last.
    """

    def __init__(self, params: Params, rates: Sequence[float]) -> None:
        super().__init__(params)
        if not rates or not all(rate > 0 for rate in rates):
            raise UserError(f"algorithm.rule.rates={list(rates)}: at least one rate, each above 0")
        self.rates = tuple(checked_rate(rate) for rate in rates)

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        rate = self.rates[min(step, len(self.rates) - 1)]
        return {name: value - rate * gradients[name] for name, value in params.items()}, state
