"""Clipping and weight decay, applied to inner gradients before a rule uses them."""

import torch

from metaloop.errors import UserError
from metaloop.types import Params


class GradientShaping:
    """Clipping by the global norm, then weight decay: ``g <- c(g) g + weight_decay p``, ``c(g) = min(1, max_norm / |g|)``.

    The norm ``|g|`` is over all adapted tensors of one task together (Pascanu et al. 2013, algorithm 1). The decay is the
    gradient of ``weight_decay / 2 |p|^2``. The order is that of torch's ``clip_grad_norm_`` followed by an optimiser with
    ``weight_decay``. Both are differentiable; at a zero gradient the derivative is that without clipping.

    Args:
        weight_decay: at least 0; 0 for none.
        max_norm: above 0; None for no clipping.
    """

    def __init__(self, weight_decay: float, max_norm: float | None) -> None:
        if not weight_decay >= 0:
            raise UserError(f"algorithm.rule.weight_decay={weight_decay}: at least 0")
        if max_norm is not None and not max_norm > 0:
            raise UserError(f"algorithm.rule.max_norm={max_norm}: above 0, or null for no clipping")
        self.weight_decay = weight_decay
        self.max_norm = max_norm

    def __call__(self, gradients: Params, params: Params) -> Params:
        """Return the gradients for the rule, by the same names."""
        if self.max_norm is not None:
            squares = torch.stack([(gradient**2).sum() for gradient in gradients.values()]).sum()
            # The square is bounded from below: the factor is then exactly 1, and the root is never taken at zero.
            factor = self.max_norm / squares.clamp(min=self.max_norm**2).sqrt()
            gradients = {name: factor * gradient for name, gradient in gradients.items()}
        if self.weight_decay:
            gradients = {name: gradient + self.weight_decay * params[name] for name, gradient in gradients.items()}
        return gradients
