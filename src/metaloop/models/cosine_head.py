"""A head that compares directions."""

import torch
from torch import Tensor, nn


class CosineHead(nn.Module):
    """``scale`` times the cosine of the angle between an example's features and each class's vector, a row of ``weight``.

    Takes the place of a linear head (Baseline++ of Chen et al. 2019, section 3.2, "cosine distance"; before them Gidaris and
    Komodakis 2018, section 3.2, with a learned scale). The code of Chen et al. moreover learns a factor for each class.

    Args:
        features: numbers that describe an example.
        outputs: classes.
        scale: above 0; the softmax of bare cosines in [-1, 1] could not come near a certain answer.
    """

    def __init__(self, features: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, features) / features**0.5)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(examples, features) to (examples, outputs)."""
        return self.scale * _unit(x) @ _unit(self.weight).T


def _unit(rows: Tensor) -> Tensor:
    # The small number keeps the gradient finite where all features are 0, as after a ReLU.
    return rows * torch.rsqrt((rows**2).sum(-1, keepdim=True) + 1e-12)
