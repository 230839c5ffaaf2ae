"""R2-D2: ridge regression on the support set."""

import torch
from torch import Tensor, nn

from metaloop.learners.metric.comparison import Comparison, belongs, check_positive
from metaloop.types import Examples


class Ridge(Comparison):
    """R2-D2: the scores of a ridge regression to one-hot labels (Bertinetto et al. 2019, equations 3 to 6).

    As in the authors' code, a column of ones gives the scores a bias, which is regularised like the weights, and support
    features and labels are divided by the square root of the number of examples, so that the regularisation means the same at
    any number of shots. The paper's common offset of all logits is left out, since softmax ignores it.

    Args:
        regularisation: initial weight of the squared norm. Learned, as in the paper. The authors' code keeps it at 50, for
            features of larger norm than ours.
        scale: initial factor of the scores, 10 in the authors' code for Omniglot. Learned.
        bias: whether to append a column of ones to the features.
        per_example: whether to minimise the mean over examples plus the weighted norm, not the sum.
    """

    def __init__(self, regularisation: float = 1.0, scale: float = 10.0, bias: bool = True, per_example: bool = True) -> None:
        super().__init__()
        self.log_regularisation = nn.Parameter(torch.tensor(check_positive("regularisation", regularisation)).log())
        self.scale = nn.Parameter(torch.tensor(check_positive("scale", scale)))
        self.bias = bias
        self.per_example = per_example

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        if self.bias:
            support, query = with_ones(support), with_ones(query)
        x, targets = real_rows(support, labels)
        regularisation = self.log_regularisation.double().exp()
        if self.per_example:
            regularisation = regularisation * targets.sum().clamp(min=1)
        weights = ridge(x, targets, regularisation)
        return self.scale * (query.double() @ weights).to(query)


def with_ones(features: Tensor) -> Tensor:
    """Append a column of ones to features (examples, features), whose weight is a bias."""
    return torch.cat([features, torch.ones_like(features[:, :1])], 1)


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
