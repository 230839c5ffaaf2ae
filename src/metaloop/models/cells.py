"""The cells of a table as they are, for readers that embed them themselves."""

import math

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.model import Model


class Cells(nn.Module, Model):
    """A network without parameters that returns its inputs, flattened.

    Args:
        input_shape: shape of one example.
        outputs: None; there can be no head.

    Raises:
        UserError: a head is asked for.
    """

    head = None

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None) -> None:
        super().__init__()
        if outputs is not None:
            raise UserError("model=cells has no head: take it with algorithm=tabular_transformer, or another model")
        self.features = math.prod(input_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, *input) to (examples, features)."""
        return x.flatten(1)
