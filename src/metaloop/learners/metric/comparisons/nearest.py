"""Nearest neighbours: a class is scored by its nearest support example."""

import torch
from torch import Tensor

from metaloop.learners.metric.comparison import Comparison, Scale, belongs
from metaloop.problems.task_loss import restricted
from metaloop.types import Examples


class Nearest(Comparison):
    """Negative squared distance to the nearest support example of each class.

    For words it is NNShot (Yang and Katiyar 2020, EMNLP, section 3.1). It suits the class "no entity", whose words are too
    diverse for one prototype. Trained in episodes, it is a prototypical network whose prototype for a query is the nearest
    example.

    Args:
        scale: factor of the logits.
        learn_scale: whether the scale is a meta-parameter.
    """

    def __init__(self, scale: float = 1.0, learn_scale: bool = False) -> None:
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        # By products, since the differences of all pairs of words would take hundreds of times the memory.
        near = 2 * query @ support.T - (support**2).sum(1) - (query**2).sum(1, keepdim=True)
        member = belongs(labels)
        nearest = torch.where(member, self.scale(near)[:, None], -torch.inf).amax(-1)
        return restricted(nearest, member.any(1))
