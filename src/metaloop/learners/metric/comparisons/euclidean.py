"""Euclidean distances between queries and prototypes: prototypical networks."""

from torch import Tensor

from metaloop.learners.metric.comparison import Comparison, Scale, class_means, squared_distances
from metaloop.types import Examples


class Euclidean(Comparison):
    """Negative squared distances between queries and class means as logits (Snell et al. 2017, eqs. 1 and 2).

    Args:
        scale: factor of the logits, the inverse of a temperature (1 in the paper).
        learn_scale: whether the scale is a meta-parameter (Oreshkin et al. 2018, section 2.1).
    """

    def __init__(self, scale: float = 1.0, learn_scale: bool = False) -> None:
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        scores: Tensor = self.scale(-squared_distances(query, class_means(support, labels)))
        return scores
