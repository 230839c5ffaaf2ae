"""Small networks for learned optimisers to train (Andrychowicz et al. 2016)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.model import Model

ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu, "tanh": torch.tanh}


class Optimisee(nn.Module, Model):
    """A linear model, or a multi-layer perceptron without norms, whose parameters all start at the same scale.

    Without hidden layers it is the linear map of a quadratic problem, or logistic regression. The paper's MLP has one hidden
    layer of 20 sigmoid units and starts normal with standard deviation 0.01 (the authors' code).

    Args:
        input_shape: one example's shape; inputs are flattened.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        hidden: widths of the hidden layers; may be empty.
        activation: sigmoid, relu or tanh, between layers.
        bias: whether layers have a bias.
        scale: standard deviation of the initial numbers of every parameter tensor, which are normal and standardized to have
            exactly this deviation and mean 0, so that ``algorithm/head_init=fresh`` draws each task's start at this scale. A
            tensor of one number starts at 0.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        hidden: Sequence[int],
        activation: str,
        bias: bool,
        scale: float,
    ) -> None:
        super().__init__()
        if hidden and min(hidden) < 1:
            raise UserError(f"model.hidden={list(hidden)}: widths of at least 1, or [] for a linear model")
        if activation not in ACTIVATIONS:
            raise UserError(f"model.activation={activation!r}: one of {', '.join(ACTIVATIONS)}")
        if not scale > 0:
            raise UserError(f"model.scale={scale}: above 0")
        widths = [math.prod(input_shape), *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias) for a, b in zip(widths, hidden, strict=False))
        self.activation = ACTIVATIONS[activation]
        self.features = widths[-1]
        self.head = nn.Linear(self.features, outputs, bias) if outputs is not None else None
        with torch.no_grad():
            for value in self.parameters():
                value.normal_()
                deviation, mean = torch.std_mean(value, correction=0)
                value.sub_(mean).mul_(scale / deviation if value.numel() > 1 else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, *input) to (examples, outputs), or (examples, features) without a head."""
        x = x.flatten(1)
        for layer in self.layers:
            x = self.activation(layer(x))
        return x if self.head is None else self.head(x)
