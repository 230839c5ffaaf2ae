"""Logistic regression on the support set as a head."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, check_positive
from metaloop.learners.metric.comparisons.ridge import real_rows
from metaloop.problems.task_loss import restricted
from metaloop.types import Examples

_HALVINGS = 8  # of a Newton step, tried all at once


class Logistic(Comparison):
    """LR-D2: the logits of a regularised logistic regression, solved by Newton steps (Bertinetto et al. 2019, section 3.3).

    The paper unrolls steps of one regression a class; here one multinomial regression is solved to its end and differentiated
    there by the implicit function theorem, so that the gradient does not depend on the number of steps.

    Args:
        regularisation: where half the weight of the squared norm starts; 1 / C in scikit-learn's words. Learned.
        scale: where the factor of the logits starts. Learned.
        steps: of Newton's method; it is done long before ten where features are not huge.
    """

    def __init__(self, regularisation: float = 1.0, scale: float = 1.0, steps: int = 10) -> None:
        super().__init__()
        if steps < 1:
            raise UserError(f"algorithm.comparison.steps={steps}: at least 1")
        self.log_regularisation = nn.Parameter(torch.tensor(check_positive("regularisation", regularisation)).log())
        self.scale = nn.Parameter(torch.tensor(check_positive("scale", scale)))
        self.steps = steps

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        x, targets = real_rows(support, labels)
        dual = logistic(x @ x.T, targets, self.log_regularisation.double().exp(), self.steps)
        return self.scale * (query.double() @ x.T @ dual).to(query)


def logistic(gram: Tensor, targets: Tensor, regularisation: Tensor, steps: int) -> Tensor:
    """(examples, ways) a, where x' a is the minimum of the cross-entropies' sum + regularisation / 2 |w|².

    Differentiable in ``gram`` and ``regularisation``, once: the last Newton step, which changes nothing at the minimum, has the
    minimum's derivative.

    Args:
        gram: (examples, examples) x x'; zero where an example is padding.
        targets: (examples, ways) one-hot, zero for padding. Classes without an example take no part.
        regularisation: scalar above 0.
        steps: of Newton's method.
    """
    with torch.no_grad():
        dual = torch.zeros_like(targets)
        for _ in range(steps):
            p = _probabilities(gram @ dual, targets)
            move = _newton(gram, p, regularisation, regularisation * dual + p - targets)
            dual = dual + _length(gram, targets, regularisation, dual, move) * move
        p = _probabilities(gram @ dual, targets)
    slope = regularisation * dual + _probabilities(gram @ dual, targets) - targets
    return dual + _newton(gram.detach(), p, regularisation.detach(), slope)


def _probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """(examples, ways), zero for padding and for absent classes."""
    return torch.softmax(_present(logits, targets), -1) * targets.sum(1, keepdim=True)


def _present(logits: Tensor, targets: Tensor) -> Tensor:
    return restricted(logits, targets.any(0))


def _newton(gram: Tensor, p: Tensor, regularisation: Tensor, slope: Tensor) -> Tensor:
    """(examples, ways) d that solves r d + D gram d = -slope, with D = diag(p) - p p' of each example.

    The Hessian couples classes by one sum an example, so systems of the size of ``gram`` are enough: one a class, and one
    for the sums (as in Rasmussen and Williams 2006, algorithm 3.3).
    """
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    each = p.T[:, :, None]  # (ways, examples, 1)
    right = torch.cat([-slope.T[:, :, None], each * identity], -1)
    own, of_sums = torch.linalg.solve(regularisation * identity + each * gram, right).split([1, len(gram)], -1)
    sums = torch.linalg.solve(identity - (each * (gram @ of_sums)).sum(0), (each * (gram @ own)).sum(0))
    return (own + of_sums @ sums)[..., 0].T


def _length(gram: Tensor, targets: Tensor, regularisation: Tensor, dual: Tensor, move: Tensor) -> Tensor:
    """Scalar: the best of some shares of the Newton step; far from the minimum the whole of it may lead astray."""
    lengths = 0.5 ** torch.arange(_HALVINGS, dtype=gram.dtype, device=gram.device)
    at = dual + lengths[:, None, None] * move
    logits = gram @ at
    losses = -(targets * F.log_softmax(_present(logits, targets), -1)).sum((1, 2))
    best = (losses + regularisation / 2 * (at * logits).sum((1, 2))).argmin(0, keepdim=True)
    return lengths.gather(0, best)[0]  # indexing by a tensor without axes would have the host wait for it
