"""Prototypes by Euclidean distance."""

from torch import Tensor

from metaloop.learners.comparison import Comparison, class_means, squared_distances
from metaloop.types import Examples


class Euclidean(Comparison):
    """Classes are the means of their support features; logits are minus squared distances (Snell et al. 2017, eqs. 1 and 2)."""

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        return -squared_distances(query, class_means(support, labels))
