"""Laplacian-regularised inference."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, check_positive, class_means, squared_distances
from metaloop.problems.task_loss import without_absent_classes
from metaloop.types import Examples


class Laplacian(Comparison):
    """LaplacianShot: prototypes, and queries that are neighbours pull each other to one class (Ziko et al. 2020, equation 12).

    The paper chooses the pull on validation classes and trains without it, to classify (as ``algorithm=laplacian_shot`` does);
    in episodic training it is learned, through the iterations. The shift of prototypes towards the queries that the paper puts
    before it is left out. Pulls of about 1 are for features of length one, as the authors compare
    (``algorithm/transform=centred``, their CL2N); beside distances of long features they change next to nothing.

    Args:
        pull: of a neighbour that is sure of a class, on that class's logit, where it starts (theirs: 0.1 to 1.5). Learned.
        neighbours: of a query, the nearest. The authors count the query itself among theirs: their 3 are 2 here.
        steps: of the iteration, which stands still after a few.
    """

    transductive: ClassVar[bool] = True

    def __init__(self, pull: float = 1.0, neighbours: int = 3, steps: int = 20) -> None:
        super().__init__()
        for key, value in (("neighbours", neighbours), ("steps", steps)):
            if value < 1:
                raise UserError(f"algorithm.comparison.{key}={value}: at least 1")
        self.log_pull = nn.Parameter(torch.tensor(check_positive("pull", pull)).log())
        self.neighbours = neighbours
        self.steps = steps

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        alone = without_absent_classes(-squared_distances(query, class_means(support, labels)), labels)
        near = self.log_pull.exp() * nearest(query.detach(), query_mask, self.neighbours)
        logits = alone
        for _ in range(self.steps):
            logits = alone + near @ torch.softmax(logits, -1)
        return logits


def nearest(rows: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """(m, m) of 0 and 1: whether a column's row (m, features) is among the ``count`` nearest to a row's, itself aside.

    Rows that ``mask`` (m,) leaves out are nobody's neighbours and have none.
    """
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    out = itself if mask is None else itself | ~mask | ~mask[:, None]
    distances = torch.where(out, torch.inf, squared_distances(rows, rows))
    chosen = distances.topk(min(count, len(rows)), largest=False).indices
    return torch.zeros_like(distances).scatter(-1, chosen, 1.0) * ~out
