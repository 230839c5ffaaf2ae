"""DN4: images compared by their local descriptors."""

from typing import ClassVar

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, belongs, unit
from metaloop.problems.task_loss import ABSENT
from metaloop.types import Examples


class LocalDescriptors(Comparison):
    """DN4: compares each place of a query's feature map with the nearest places among all support maps of a class.

    A logit is the sum over the query's places of the cosines with the ``neighbours`` nearest places (Li et al. 2019, eq. 2).

    Args:
        neighbours: number of nearest places in each class, or all places of a class that has fewer.
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
        # Both are (examples, places, channels).
        support_places, query_places = (unit(maps.flatten(2).transpose(1, 2)) for maps in (support, query))
        examples, places = support_places.shape[:2]
        similarities = torch.unflatten(query_places.flatten(0, 1) @ support_places.flatten(0, 1).T, 1, (examples, places))
        # The nearest places of a class are among the nearest of each of its examples, so only these are masked and compared.
        nearest = similarities.topk(min(self.neighbours, places)).values  # (queries x places, examples, neighbours)
        of_class = torch.where(belongs(labels)[..., None], nearest[:, None], ABSENT).flatten(2)
        nearest = of_class.topk(min(self.neighbours, of_class.shape[-1])).values
        nearest = torch.where(nearest > ABSENT / 2, nearest, 0.0)
        return torch.unflatten(nearest.sum(-1), 0, (len(query), places)).sum(1)
