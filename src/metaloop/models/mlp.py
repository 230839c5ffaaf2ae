"""A multi-layer perceptron."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.distance_head import DistanceHead
from metaloop.models.model import Model
from metaloop.models.norm import Norm

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}
HEADS: Mapping[str, type[nn.Linear | DistanceHead]] = {"linear": nn.Linear, "distance": DistanceHead}


class MLP(nn.Module, Model):
    """A multi-layer perceptron; inputs of any shape are flattened.

    Args:
        input_shape: one example's shape.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        hidden: widths of the hidden layers, at least one.
        norm: mode of :class:`metaloop.models.norm.Norm`, before each activation.
        frequencies: in cycles per unit of an input. Sines and cosines of every input at these frequencies become further
            inputs, because a network learns fast variation slowly without them (Tancik et al. 2020, section 6, with
            frequencies on the axes).
        bias: whether the hidden layers have biases.
        head: "linear", or "distance" for logarithms of squared distances to centres (:class:`DistanceHead`).
        activation: "relu" or "tanh", between the layers.
    """

    takes_weight = True
    turns: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        hidden: Sequence[int],
        norm: str = "none",
        frequencies: Sequence[float] = (),
        bias: bool = True,
        head: str = "linear",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise UserError(f"model.hidden={list(hidden)}: at least one width of at least 1")
        if any(not frequency > 0 for frequency in frequencies):
            raise UserError(f"model.frequencies={list(frequencies)}: numbers above 0, in cycles per unit of the input")
        if head not in HEADS:
            raise UserError(f"model.head={head!r}: one of {', '.join(HEADS)}")
        if activation not in ACTIVATIONS:
            raise UserError(f"model.activation={activation!r}: one of {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.register_buffer("turns", 2 * math.pi * torch.tensor(list(frequencies)), persistent=False)
        widths = [math.prod(input_shape) * (1 + 2 * len(frequencies)), *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias) for a, b in zip(widths, hidden, strict=False))
        self.norms = nn.ModuleList(Norm(width, norm) for width in hidden)
        self.features = hidden[-1]
        self.head = HEADS[head](self.features, outputs) if outputs is not None else None

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (examples, *input) to (examples, outputs), or (examples, features) without a head.

        ``weight`` (examples,): see :meth:`metaloop.models.norm.Norm.forward`.
        """
        x = x.flatten(1)
        if len(self.turns):
            angles = (x[:, :, None] * self.turns).flatten(1)
            x = torch.cat([x, angles.sin(), angles.cos()], 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x), weight))
        return x if self.head is None else self.head(x)
