"""Relation networks: a learned comparison of feature maps."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, Embedding, class_means
from metaloop.models.norm import Norm
from metaloop.types import Examples


class Relation(Comparison):
    """A network that scores pairs of a class's and a query's feature map (Sung et al. 2018, section 3.2 and figure 2).

    Deviations: a class's map is the mean of its support maps, not the sum, so that other shots can be tested. Scores are logits
    under cross-entropy, not sigmoids under squared error. The network normalises each pair by itself (layer norm), since batch
    norm over all pairs would let queries affect each other.

    Args:
        embedding: size of the model's output.
        filters: number of filters of each convolutional block.
        hidden: width of the layer before the score.
    """

    maps: ClassVar[bool] = True

    def __init__(self, embedding: Embedding, filters: int = 64, hidden: int = 8) -> None:
        super().__init__()
        for key, value in (("filters", filters), ("hidden", hidden)):
            if value < 1:
                raise UserError(f"algorithm.comparison.{key}={value}: at least 1")
        channels, height, width = embedding.maps()
        self.first = nn.Conv2d(2 * channels, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.norms = nn.ModuleList(Norm(filters, "layer") for _ in range(2))
        sides = [max(1, max(1, side // 2) // 2) for side in (height, width)]
        self.hidden = nn.Linear(filters * sides[0] * sides[1], hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        means = torch.unflatten(class_means(support.flatten(1), labels), 1, support.shape[1:])
        # The convolution of a pair is the sum of the convolutions of its halves, each of which occurs in many pairs.
        of_class, of_query = self.first.weight.chunk(2, 1)
        left, right = F.conv2d(means, of_class, padding=1), F.conv2d(query, of_query, self.first.bias, padding=1)
        x = (right[:, None] + left).flatten(0, 1)
        x = _pooled(F.relu(self.norms[0](x)))
        x = _pooled(F.relu(self.norms[1](self.second(x))))
        scores: Tensor = self.score(F.relu(self.hidden(x.flatten(1))))
        return scores.view(len(query), labels.ways)


def _pooled(x: Tensor) -> Tensor:
    """Halve both sides by max pooling, rounding down to no less than 1."""
    return F.max_pool2d(x, tuple(min(2, side) for side in x.shape[-2:]))
