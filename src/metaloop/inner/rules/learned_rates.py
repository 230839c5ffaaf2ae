"""Gradient descent with meta-learned rates."""

import math

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.rule import InnerRule, checked_rate
from metaloop.types import Params

GRANULARITIES = ("tensor", "element")


def key_of(name: str) -> str:
    """Return a parameter's name as a key of ``nn.ParameterDict``, which allows no dots."""
    return name.replace(".", "/")


def checked_steps(steps: int) -> int:
    """Return the number of inner steps with their own meta-parameters.

    Raises:
        UserError: it is below 1.
    """
    if steps < 1:
        raise UserError(f"algorithm.rule.steps={steps}: at least 1")
    return steps


class LearnedRate(InnerRule):
    """``p <- p - a * g`` with meta-learned rates ``a``.

    Per element it is Meta-SGD (Li et al. 2017, equation 2). Its authors start the rates at random in [0.005, 0.1]; ours all
    start at ``lr``, so that training starts as MAML. Per tensor and step it is the LSLR of MAML++ (Antoniou et al. 2019,
    section 4), where a "layer" is a parameter tensor in the authors' code, too. Rates may become negative, as in the papers.

    Args:
        params: the adapted parameters.
        lr: initial value of all rates.
        granularity: "tensor" (one rate for each parameter tensor) or "element" (one for each number).
        steps: number of steps with their own rates, later steps use those of the last; None for the same rates at all steps.
    """

    def __init__(self, params: Params, lr: float, granularity: str, steps: int | None = None) -> None:
        super().__init__(params)
        if granularity not in GRANULARITIES:
            raise UserError(f"algorithm.rule.granularity={granularity!r}: one of {', '.join(GRANULARITIES)}")
        start = checked_rate(lr)
        self.steps = None if steps is None else checked_steps(steps)
        leading = () if self.steps is None else (self.steps,)
        shapes = {n: (*leading, *(p.shape if granularity == "element" else ())) for n, p in params.items()}
        self.rates = nn.ParameterDict(
            {key_of(n): nn.Parameter(torch.full(shape, start, dtype=params[n].dtype)) for n, shape in shapes.items()}
        )

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        rates = {name: self.rates[key_of(name)] for name in params}
        if self.steps is not None:
            rates = {name: rate[min(step, self.steps - 1)] for name, rate in rates.items()}
        return {name: value - rates[name] * gradients[name] for name, value in params.items()}, state


class LearnedRateAndDecay(InnerRule):
    """``p <- p - a (g + d p)`` with one meta-learned rate ``a`` and weight decay ``d``: hyper-parameter meta-learning.

    Their logarithms are learned, so that both stay above 0 and an outer step changes them by a factor (Maclaurin et al. 2015
    likewise learn log rates through a whole training run).

    Args:
        params: the adapted parameters.
        lr: initial rate, above 0.
        weight_decay: initial weight decay, above 0.
    """

    def __init__(self, params: Params, lr: float, weight_decay: float) -> None:
        super().__init__(params)
        if not weight_decay > 0:
            raise UserError(f"algorithm.rule.weight_decay={weight_decay}: above 0, because its logarithm is learned")
        dtype = next(iter(params.values())).dtype
        self.log_lr = nn.Parameter(torch.tensor(math.log(checked_rate(lr)), dtype=dtype))
        self.log_weight_decay = nn.Parameter(torch.tensor(math.log(weight_decay), dtype=dtype))

    def init(self, params: Params) -> Params:
        """Return an empty state."""
        return {}

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        rate, decay = self.log_lr.exp(), self.log_weight_decay.exp()
        return {name: value - rate * (gradients[name] + decay * value) for name, value in params.items()}, state
