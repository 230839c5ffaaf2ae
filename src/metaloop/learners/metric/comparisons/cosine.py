"""Prototypes by direction."""

from torch import Tensor

from metaloop.learners.metric.comparison import Comparison, Scale, class_means, cosines
from metaloop.types import Examples


class Cosine(Comparison):
    """Logits are scaled cosines between queries and class means (Chen et al. 2021, eqs. 1 and 2, with the scale learned).

    Args:
        scale: of the cosines, without which a softmax could not come near a certain answer.
        learn_scale: whether it is a meta-parameter.
    """

    def __init__(self, scale: float = 10.0, learn_scale: bool = True) -> None:
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        return self.scale(cosines(query, class_means(support, labels)))
