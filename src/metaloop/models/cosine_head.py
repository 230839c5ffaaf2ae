"""A head of cosine similarities."""

import torch
from torch import Tensor, nn


class CosineHead(nn.Linear):
    """``scale`` times the cosine of the angle between an example's features and each class's vector, a row of ``weight``.

    Features and vectors are scaled to unit length; there is no bias.

    It replaces a linear head (Baseline++ of Chen et al. 2019, section 3.2, "cosine distance"; before them Gidaris and
    Komodakis 2018, section 3.2, with a learned scale). The code of Chen et al. also learns a factor for each class, the length
    that weight normalization gives a class's vector: ``lengths``.

    Args:
        features: number of features of an example.
        outputs: number of classes.
        scale: above 0; without it, cosines in [-1, 1] could not give probabilities near 0 and 1.
        lengths: whether each class's logit has a learned factor, which starts at the root mean square length of a row of
            ``torch.nn.Linear`` (1 / sqrt(3)).
    """

    def __init__(self, features: int, outputs: int, scale: float, *, lengths: bool = False) -> None:
        super().__init__(features, outputs, bias=False)
        self.scale = scale
        self.lengths = nn.Parameter(torch.full((outputs,), 3**-0.5)) if lengths else None

    def reset_parameters(self) -> None:
        """Draw the classes' vectors, of length about one."""
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.out_features, self.in_features) / self.in_features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, features) to (examples, outputs)."""
        cosines = self.scale * _unit(x) @ _unit(self.weight).T
        return cosines if self.lengths is None else cosines * self.lengths


def resized(head: nn.Linear, outputs: int) -> nn.Linear:
    """Return a new head of the same kind with another number of outputs."""
    if isinstance(head, CosineHead):
        return CosineHead(head.in_features, outputs, head.scale, lengths=head.lengths is not None).to(head.weight)
    return nn.Linear(head.in_features, outputs, head.bias is not None).to(head.weight)


def _unit(rows: Tensor) -> Tensor:
    # The small constant keeps the gradient finite if all features are 0, as they may be after a ReLU.
    return rows * torch.rsqrt((rows**2).sum(-1, keepdim=True) + 1e-12)
