"""LaplacianShot: Laplacian-regularised inference."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, check_positive, class_means, squared_distances
from metaloop.problems.task_loss import without_absent_classes
from metaloop.types import Examples


class Laplacian(Comparison):
    """LaplacianShot: prototypes, with queries that pull their neighbours to the same class (Ziko et al. 2020, equation 12).

    The paper trains by classification without the pull, as ``algorithm=laplacian_shot`` does, and chooses the pull on
    validation classes. In episodic training the pull is learned through the iterations. The paper's shift of the prototypes
    towards the queries is left out. A pull of about 1 suits features of length one, as the authors compare
    (``algorithm/transform=centred``, their CL2N); beside the distances of long features it has almost no effect.

    Args:
        pull: initial weight of a neighbour's class probability in a logit (0.1 to 1.5 in the paper). Learned.
        neighbours: number of nearest neighbours of a query. The authors count the query itself: their 3 is 2 here.
        steps: number of iterations, which converge after a few.
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
        prototype_logits = without_absent_classes(-squared_distances(query, class_means(support, labels)), labels)
        near = self.log_pull.exp() * nearest(query.detach(), query_mask, self.neighbours)
        logits = prototype_logits
        for _ in range(self.steps):
            logits = prototype_logits + near @ torch.softmax(logits, -1)
        return logits


def nearest(rows: Tensor, mask: Tensor | None, count: int) -> Tensor:
    """Neighbour matrix of rows (m, features): (m, m), 1 where row j is among the ``count`` nearest other rows of row i, else 0.

    Rows where ``mask`` (m,) is false have no neighbours and are not neighbours of any row.
    """
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    excluded = itself if mask is None else itself | ~mask | ~mask[:, None]
    distances = torch.where(excluded, torch.inf, squared_distances(rows, rows))
    chosen = distances.topk(min(count, len(rows)), largest=False).indices
    return torch.zeros_like(distances).scatter(-1, chosen, 1.0) * ~excluded
