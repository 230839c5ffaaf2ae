"""A head of squared distances to centres."""

import torch
from torch import Tensor, nn


class DistanceHead(nn.Module):
    """Logarithms of mean squared differences between an example's features and a centre for each output, less a learned offset.

    For Deep SAD (Ruff et al. 2020, equation 7): the centre is a constant that no gradient reaches, and a task sets it
    (:class:`metaloop.inner.head_init.Center`). The offset is the logarithm of a squared radius, so that outputs above 0 lie
    outside.

    Args:
        features: number of features of an example.
        outputs: number of centres.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.center = nn.Parameter(torch.randn(outputs, features) / features**0.5)
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, features) to (examples, outputs), or to itself if the centre is replaced by one of no rows."""
        if not len(self.center):
            return x
        squares = (x[:, None] - self.center.detach()).square().mean(-1)
        return (squares + 1e-6).log() - self.offset
