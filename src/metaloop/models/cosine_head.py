"""A head that compares directions."""

import torch
from torch import Tensor, nn


class CosineHead(nn.Linear):
    """``scale`` times the cosine of the angle between an example's features and each class's vector, a row of ``weight``.

    It is the linear map of features of length one to vectors of length one, without a bias.

    Takes the place of a linear head (Baseline++ of Chen et al. 2019, section 3.2, "cosine distance"; before them Gidaris and
    Komodakis 2018, section 3.2, with a learned scale). The code of Chen et al. moreover learns a factor for each class.

    Args:
        features: numbers that describe an example.
        outputs: classes.
        scale: above 0; the softmax of bare cosines in [-1, 1] could not come near a certain answer.
    """

    def __init__(self, features: int, outputs: int, scale: float) -> None:
        super().__init__(features, outputs, bias=False)
        self.scale = scale

    def reset_parameters(self) -> None:
        """Draw the classes' vectors, of about length one."""
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.out_features, self.in_features) / self.in_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(examples, features) to (examples, outputs)."""
        return self.scale * _unit(x) @ _unit(self.weight).T


def resized(head: nn.Linear, outputs: int) -> nn.Linear:
    """A new head like this one, for another number of outputs."""
    if isinstance(head, CosineHead):
        return CosineHead(head.in_features, outputs, head.scale).to(head.weight)
    return nn.Linear(head.in_features, outputs, head.bias is not None).to(head.weight)


def _unit(rows: Tensor) -> Tensor:
    # The small number keeps the gradient finite where all features are 0, as after a ReLU.
    return rows * torch.rsqrt((rows**2).sum(-1, keepdim=True) + 1e-12)
