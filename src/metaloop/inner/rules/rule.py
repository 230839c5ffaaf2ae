"""Inner rules, which take one inner step: the base class, and gradient descent. Other rules are in modules beside this one."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.shaping import GradientShaping
from metaloop.types import Params


class InnerRule(nn.Module, ABC):
    """A differentiable optimiser for one task. Its own ``nn.Parameter`` s are meta-parameters.

    A rule is built for the parameters that it will change: every subclass's constructor takes ``params`` first.
    Its state is a flat mapping of float tensors, so that it can be stacked over tasks and differentiated.

    Raises:
        UserError: there are no parameters to change.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        if not params:
            raise UserError("algorithm.adapted selects no parameter of the model, so there is nothing to adapt")

    @abstractmethod
    def init(self, params: Params) -> Params:
        """Return the state before the first step."""

    @abstractmethod
    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """Take one inner step.

        Args:
            gradients: gradients of the support loss at ``params``, by the same names.
            state: the state from :meth:`init` or from the step before.
            params: the current iterate, which is not changed in place.
            step: number of the step, from 0.
            loss: the support loss at ``params``, a scalar; most rules do not use it.

        Returns:
            The next iterate and state.
        """


def checked_rate(lr: float) -> float:
    """Return the inner learning rate as a float.

    Raises:
        UserError: it is not above 0.
    """
    if not lr > 0:
        raise UserError(f"algorithm.rule.lr={lr}: the inner learning rate must be above 0")
    return float(lr)


class GradientDescent(InnerRule):
    """``p <- p - lr g`` (Finn et al. 2017, equation 1).

    Args:
        params: the adapted parameters.
        lr: learning rate, above 0.
        weight_decay: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
        max_norm: see :class:`metaloop.inner.rules.shaping.GradientShaping`.
    """

    def __init__(self, params: Params, lr: float, weight_decay: float = 0.0, max_norm: float | None = None) -> None:
        super().__init__(params)
        self.lr = checked_rate(lr)
        self.shaped = GradientShaping(weight_decay, max_norm)

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        gradients = self.shaped(gradients, params)
        return {name: value - self.lr * gradients[name] for name, value in params.items()}, state
