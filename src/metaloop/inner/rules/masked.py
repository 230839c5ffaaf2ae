"""Sparse adaptation: which numbers the inner loop may change is itself meta-learned."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.inner.rules.rule import InnerRule
from metaloop.types import Params

SPREAD = 0.1  # scores start within this of zero: a hundred outer steps of Adam at 1e-3 can open or shut a mask


class Masked(InnerRule):
    """Another rule's step where a learned score is at least zero, and no step elsewhere: ``p <- p + 1[s >= 0] * (q - p)``.

    With gradient descent it is sparse-MAML (von Oswald et al. 2021, equation 3), ``p <- p - lr 1[s >= 0] * g``. The indicator's
    derivative is taken for 1 (straight-through), so that scores of numbers that stay learn as well: **their meta-gradient is no
    derivative of the loss**, but the one of a mask that may take any value. That is also why this is a rule and no choice
    among ``algorithm/adapted``: a shut weight must still have an inner gradient for its score to learn from. The movement is
    masked, not the gradient, so that weight decay and momentum do not move what is shut.

    Args:
        params: the adapted parameters.
        rule: builds the rule whose steps are masked.
        density: share of the numbers that start open, drawn at random; the paper starts with all.
    """

    def __init__(self, params: Params, rule: Callable[[Params], InnerRule], density: float = 1.0) -> None:
        super().__init__(params)
        if not 0 < density <= 1:
            raise UserError(f"algorithm.rule.density={density}: above 0, at most 1")
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
        score = self.scores[_key(name)]
        return (score >= 0).to(score.dtype) + (score - score.detach())


def _start(value: Tensor, density: float) -> Tensor:
    """Scores of which about a share ``density`` is positive, all at most ``SPREAD`` away from zero."""
    return SPREAD * (torch.rand_like(value) - (1 - density)) / max(density, 1 - density)


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ParameterDict allows no dots
