"""A linear map of features, and a network of nothing else: what is meta-trained on top of an encoder that is frozen."""

from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.model import Model


def projection_to(width: int | None, features: int) -> nn.Linear | None:
    """A linear map from ``features`` to ``width`` numbers that keeps distances as well as it can at first; None for no width.

    It starts orthogonal, and where the widths are equal as the identity: training goes on from the features as they are.
    """
    if width is None:
        return None
    if not 1 <= width <= features:
        raise UserError(f"model.projection={width}: 1 to {features}, the encoder's features; or null for none")
    layer = nn.Linear(features, width, bias=False)
    (nn.init.eye_ if width == features else nn.init.orthogonal_)(layer.weight)
    return layer


class OnFeatures(nn.Module, Model):
    """A projection (if any) and a linear head on features that an encoder computed once for all.

    Args:
        input_shape: (features,).
        outputs: numbers of the head; None for none, so that the network answers features.
        projection: width of the projection; None for none.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int | None, projection: int | None = None) -> None:
        super().__init__()
        self.projection = projection_to(projection, input_shape[0])
        self.features = projection or input_shape[0]
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """(examples, features) to (examples, outputs), or to (examples, projection or features)."""
        x = x if self.projection is None else self.projection(x)
        return x if self.head is None else self.head(x)
