"""A linear map of features, and a network of this map alone, for meta-training on top of a frozen encoder."""

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.model import Model


def projection_to(width: int | None, features: int) -> nn.Linear | None:
    """Return a linear map from ``features`` to ``width`` numbers; None if ``width`` is None.

    It starts orthogonal, which keeps distances as far as possible, or as the identity if the widths are equal.
    """
    if width is None:
        return None
    if not 1 <= width <= features:
        raise UserError(f"model.projection={width}: 1 to {features}, the encoder's features; or null for none")
    layer = nn.Linear(features, width, bias=False)
    (nn.init.eye_ if width == features else nn.init.orthogonal_)(layer.weight)
    return layer


class OnFeatures(nn.Module, Model):
    """An optional projection and a linear head, on features that an encoder computed once.

    Args:
        input_shape: (features,) of an example.
        outputs: number of outputs of the head; None for no head, so that the network returns features.
        projection: width of the projection; None for no projection.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None, projection: int | None = None) -> None:
        super().__init__()
        self.projection = projection_to(projection, input_shape[0])
        self.features = projection or input_shape[0]
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, features) to (examples, outputs), or (examples, projection or features) without a head."""
        x = x if self.projection is None else self.projection(x)
        return x if self.head is None else self.head(x)
