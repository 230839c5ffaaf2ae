"""Sparse adaptation: a meta-learned mask of the numbers that the inner loop may change."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Params

SPREAD = 0.1  # initial scores are within this of zero, so that a hundred outer steps of Adam at 1e-3 can open or close a mask


class Masked(InnerRule):
    """Another rule's step where a learned score is at least zero, and no step elsewhere: ``p <- p + 1[s >= 0] * (q - p)``.

    With gradient descent it is sparse-MAML (von Oswald et al. 2021, equation 3), ``p <- p - lr 1[s >= 0] * g``. The indicator's
    derivative is set to 1 (straight-through), so that scores of closed numbers are learned as well: **their meta-gradient is
    not the derivative of the loss**, but the derivative for a mask that may take any value. A closed number needs an inner
    gradient for its score to learn from, so this is a rule and not a choice of ``algorithm/adapted``. The movement is masked,
    not the gradient, so that weight decay and momentum do not move closed numbers.

    Args:
        params: the adapted parameters.
        rule: builder of the rule whose steps are masked.
        density: share of the numbers that start open, drawn at random; the paper starts with all open.
    """

    def __init__(self, params: Params, rule: Callable[[Params], InnerRule], density: float = 1.0) -> None:
        super().__init__(params)
        if not 0 < density <= 1:
            raise UserError(f"algorithm.rule.density={density}: above 0 and at most 1")
        self.rule = rule(params)
        self.scores = nn.ParameterDict({_key(name): nn.Parameter(_start(value, density)) for name, value in params.items()})

    def init(self, params: Params) -> Params:
        """See :meth:`InnerRule.init`."""
        return self.rule.init(params)

    def step(self, gradients: Params, state: Params, params: Params, step: int, loss: Tensor) -> tuple[Params, Params]:
        """See :meth:`InnerRule.step`."""
        moved, state = self.rule.step(gradients, state, params, step, loss)
        return {name: value + self._mask(name) * (moved[name] - value) for name, value in params.items()}, state

    def _mask(self, name: str) -> Tensor:
        score: Tensor = self.scores[_key(name)]
        return (score >= 0).to(score.dtype) + (score - score.detach())


def _start(value: Tensor, density: float) -> Tensor:
    """Draw scores, a share of about ``density`` positive and all within ``SPREAD`` of zero."""
    return SPREAD * (torch.rand_like(value) - (1 - density)) / max(density, 1 - density)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ParameterDict allows no dots
