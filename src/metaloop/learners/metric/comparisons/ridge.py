"""Ridge regression on the support set as a head."""

import torch
from torch import Tensor, nn

from metaloop.learners.metric.comparison import Comparison, belongs, check_positive
from metaloop.types import Examples


class Ridge(Comparison):
    """R2-D2: the scores of a ridge regression onto one-hot labels (Bertinetto et al. 2019, equations 3 to 6).

    Regularisation and scale are learned. The paper's common offset of all logits is left out, since no softmax sees it.

    Args:
        regularisation: where the weight of the squared norm starts.
        scale: where the factor of the scores starts.
    """

    def __init__(self, regularisation: float = 1.0, scale: float = 10.0) -> None:
        super().__init__()
        self.log_regularisation = nn.Parameter(torch.tensor(check_positive("regularisation", regularisation)).log())
        self.scale = nn.Parameter(torch.tensor(check_positive("scale", scale)))

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        x, targets = real_rows(support, labels)
        weights = ridge(x, targets, self.log_regularisation.double().exp())
        return self.scale * (query.double() @ weights).to(query)


def real_rows(support: Tensor, labels: Examples) -> tuple[Tensor, Tensor]:
    """Features (examples, features) and one-hot labels (examples, ways), zero where an example is padding, in float64.

    Heads are solved for in float64: the matrices are small, and what is lost in float32 or less is lost to the gradient, too.
    """
    x = support.double()
    return x if labels.mask is None else x * labels.mask[:, None], belongs(labels).double().T


def ridge(x: Tensor, targets: Tensor, regularisation: Tensor) -> Tensor:
    """(features, ways): the minimum of |x w - targets|² + regularisation |w|².

    Args:
        x: (examples, features); rows of zeros change nothing. The system that is solved is as large as the smaller of both.
        targets: (examples, ways).
        regularisation: scalar above 0.
    """
    examples, features = x.shape
    identity = torch.eye(min(examples, features), dtype=x.dtype, device=x.device)
    if examples < features:
        return x.T @ torch.linalg.solve(x @ x.T + regularisation * identity, targets)
    return torch.linalg.solve(x.T @ x + regularisation * identity, x.T @ targets)
