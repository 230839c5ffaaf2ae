"""Nearest neighbours: a class is as near as its nearest support example."""

import torch
from torch import Tensor

from metaloop.learners.metric.comparison import Comparison, Scale, belongs
from metaloop.problems.task_loss import restricted
from metaloop.types import Examples


class Nearest(Comparison):
    """Minus the squared distance to the nearest support example of each class.

    Of words it is NNShot (Yang and Katiyar 2020, EMNLP, section 3.1): "no entity", which has no middle, needs none. Trained in
    episodes, it is a prototypical network whose prototype for a query is the nearest example.

    Args:
        scale: of the logits.
        learn_scale: whether it is a meta-parameter.
    """

    def __init__(self, scale: float = 1.0, learn_scale: bool = False) -> None:
        super().__init__()
        self.scale = Scale(scale, learn_scale)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        # By products: the differences of all pairs of words would take hundreds of times the memory.
        near = 2 * query @ support.T - (support**2).sum(1) - (query**2).sum(1, keepdim=True)
        member = belongs(labels)
        nearest = torch.where(member, self.scale(near)[:, None], -torch.inf).amax(-1)
        return restricted(nearest, member.any(1))
