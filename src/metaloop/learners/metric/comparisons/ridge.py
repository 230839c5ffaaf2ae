"""R2-D2: ridge regression on the support set."""

import torch
from torch import Tensor, nn

from metaloop.learners.metric.comparison import Comparison, belongs, check_positive
from metaloop.types import Examples


class Ridge(Comparison):
    """R2-D2: the scores of a ridge regression to one-hot labels (Bertinetto et al. 2019, equations 3 to 6).

    The paper's common offset of all logits is left out, since softmax ignores it.

    Args:
        regularisation: initial weight of the squared norm. Learned.
        scale: initial factor of the scores. Learned.
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
    """Return features (examples, features) and one-hot labels (examples, ways) in float64, zero for padding.

    Heads are solved in float64: the matrices are small, and the gradient would inherit the rounding errors of a solution in
    float32.
    """
    x = support.double()
    return x if labels.mask is None else x * labels.mask[:, None], belongs(labels).double().T


def ridge(x: Tensor, targets: Tensor, regularisation: Tensor) -> Tensor:
    """Minimise |x w - targets|² + regularisation |w|² over w (features, ways), by the smaller of the two linear systems.

    Args:
        x: (examples, features); rows of zeros do not affect the result.
        targets: (examples, ways).
        regularisation: scalar above 0.
    """
    examples, features = x.shape
    identity = torch.eye(min(examples, features), dtype=x.dtype, device=x.device)
    weights: Tensor
    if examples < features:
        weights = x.T @ torch.linalg.solve(x @ x.T + regularisation * identity, targets)
    else:
        weights = torch.linalg.solve(x.T @ x + regularisation * identity, x.T @ targets)
    return weights
