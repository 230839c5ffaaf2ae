"""Cosines between queries and prototypes."""

from torch import Tensor

from metaloop.learners.metric.comparison import Comparison, Scale, class_means, cosines
from metaloop.types import Examples


class Cosine(Comparison):
    """Scaled cosines between queries and class means as logits (Chen et al. 2021, eqs. 1 and 2, with a learned scale).

    Args:
        scale: factor of the cosines, at the start if it is learned. With 1, no softmax of cosines is near 0 or 1.
        learn_scale: whether the scale is a meta-parameter.
    """

    def __init__(self, scale: float = 10.0, learn_scale: bool = True) -> None:
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        scores: Tensor = self.scale(cosines(query, class_means(support, labels)))
        return scores
