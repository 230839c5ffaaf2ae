"""A comparison."""

from torch import Tensor

from metaloop.learners.metric.comparison import Comparison, class_means
from metaloop.types import Examples


class Manhattan(Comparison):
    """Logits are minus city-block distances to class means.

    Args:
        scale: of the logits.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """(queries, ways), from features (examples, features) and (queries, features)."""
        means = class_means(support, labels)
        return -self.scale * (query[:, None] - means[None]).abs().sum(-1)
