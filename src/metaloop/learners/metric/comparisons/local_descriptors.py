"""Images compared place by place."""

from typing import ClassVar

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, belongs, unit
from metaloop.problems.task_loss import ABSENT
from metaloop.types import Examples


class LocalDescriptors(Comparison):
    """DN4: each place of a query's map looks for its nearest ones among all places of a class's support maps.

    A logit is the sum, over the query's places, of the cosines to the ``neighbours`` nearest (Li et al. 2019, eq. 2).

    Args:
        neighbours: of each place in each class; fewer where a class has not as many places.
    """

    maps: ClassVar[bool] = True

    def __init__(self, neighbours: int = 3) -> None:
        super().__init__()
        if neighbours < 1:
            raise UserError(f"algorithm.comparison.neighbours={neighbours}: at least 1")
        self.neighbours = neighbours

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        there, here = (unit(maps.flatten(2).transpose(1, 2)) for maps in (support, query))  # (examples, places, channels)
        examples, places = there.shape[:2]
        found = (here.flatten(0, 1) @ there.flatten(0, 1).T).unflatten(1, (examples, places))
        # The nearest of a class are among the nearest of its examples, so that few are left to be masked and compared.
        nearest = found.topk(min(self.neighbours, places)).values  # (queries x places, examples, neighbours)
        of_class = torch.where(belongs(labels)[..., None], nearest[:, None], ABSENT).flatten(2)
        nearest = of_class.topk(min(self.neighbours, of_class.shape[-1])).values
        nearest = torch.where(nearest > ABSENT / 2, nearest, 0.0)
        return nearest.sum(-1).unflatten(0, (len(query), places)).sum(1)
