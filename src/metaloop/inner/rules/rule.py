"""How one inner step is taken: what a rule is, and gradient descent. Other rules stand in the modules beside this one."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.shaping import GradientShaping
from metaloop.types import Params


class InnerRule(nn.Module, ABC):
    """A differentiable optimiser for one task. Its ``nn.Parameter`` s are meta-parameters.

    A rule is built for the parameters that it will change: every member's constructor takes ``params`` first.
    Its state is a flat mapping of float tensors, so that it can be stacked over tasks and swept back through.

    Raises:
        UserError: there are no parameters to change.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        if not params:
            raise UserError("algorithm.adapted selects no parameter of the model, so there is nothing to adapt")

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


def checked_rate(lr: float) -> float:
    """An inner learning rate that descends.

    Raises:
        UserError: it does not.
    """
    if not lr > 0:
        raise UserError(f"algorithm.rule.lr={lr}: the inner learning rate must be above 0")
    return float(lr)


class GradientDescent(InnerRule):
    """``p <- p - lr g`` (Finn et al. 2017, equation 1).

    Args:
        params: the adapted parameters.
        lr: above 0.
        weight_decay: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
        max_norm: likewise.
    """

    def __init__(self, params: Params, lr: float, weight_decay: float = 0.0, max_norm: float | None = None) -> None:
        super().__init__(params)
        self.lr = checked_rate(lr)
        self.shaped = GradientShaping(weight_decay, max_norm)

    def init(self, params: Params) -> Params:
        """Plain descent keeps nothing."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        gradients = self.shaped(gradients, params)
        return {name: value - self.lr * gradients[name] for name, value in params.items()}, state
