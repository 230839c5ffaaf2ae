"""LR-D2: logistic regression on the support set."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, check_positive
from metaloop.learners.metric.comparisons.ridge import real_rows, with_ones
from metaloop.problems.task_loss import restricted
from metaloop.types import Examples

_HALVINGS = 8  # step lengths 1, 1/2, 1/4, ... of a Newton step, tried at once


class Logistic(Comparison):
    """LR-D2: the logits of a regularised logistic regression, solved by Newton steps (Bertinetto et al. 2019, section 3.3).

    The paper unrolls the steps of one regression for each class. Here one multinomial regression is solved to convergence and
    differentiated at the solution by the implicit function theorem, so the gradient does not depend on the number of steps.
    As in the authors' code, a column of ones gives the logits a bias, which is regularised like the weights.

    Args:
        regularisation: initial weight of half the squared norm, 1 / C in scikit-learn. Learned.
        scale: initial factor of the logits. Learned.
        steps: number of Newton steps; fewer than ten converge unless features are huge.
        bias: whether to append a column of ones to the features.
    """

    def __init__(self, regularisation: float = 1.0, scale: float = 1.0, steps: int = 10, bias: bool = True) -> None:
        super().__init__()
        if steps < 1:
            raise UserError(f"algorithm.comparison.steps={steps}: at least 1")
        self.log_regularisation = nn.Parameter(torch.tensor(check_positive("regularisation", regularisation)).log())
        self.scale = nn.Parameter(torch.tensor(check_positive("scale", scale)))
        self.steps = steps
        self.bias = bias

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        if self.bias:
            support, query = with_ones(support), with_ones(query)
        x, targets = real_rows(support, labels)
        dual = logistic(x @ x.T, targets, self.log_regularisation.double().exp(), self.steps)
        return self.scale * (query.double() @ x.T @ dual).to(query)


def logistic(gram: Tensor, targets: Tensor, regularisation: Tensor, steps: int) -> Tensor:
    """Solve a logistic regression: (examples, ways) a, such that w = x' a minimises sum of cross-entropies + r / 2 |w|².

    It can be differentiated once, in ``gram`` and ``regularisation`` r: a last Newton step at the minimum does not change its
    value but has its derivative.

    Args:
        gram: (examples, examples) x x'; zero where an example is padding.
        targets: (examples, ways) one-hot, zero for padding. Classes without an example are ignored.
        regularisation: scalar above 0.
        steps: number of Newton steps.
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
    """Softmax of logits: (examples, ways), zero for padding and for absent classes."""
    return torch.softmax(_present(logits, targets), -1) * targets.sum(1, keepdim=True)


def _present(logits: Tensor, targets: Tensor) -> Tensor:
    return restricted(logits, targets.any(0))


def _newton(gram: Tensor, p: Tensor, regularisation: Tensor, slope: Tensor) -> Tensor:
    """Solve r d + D gram d = -slope for d (examples, ways), with D = diag(p) - p p' of each example.

    The Hessian couples the classes only by one sum for each example. So systems of the size of ``gram`` are enough: one for
    each class, and one for the sums (as in Rasmussen and Williams 2006, algorithm 3.3).
    """
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = p.T[:, :, None]  # (ways, examples, 1)
    right = torch.cat([-slope.T[:, :, None], weights * identity], -1)
    solution = torch.linalg.solve(regularisation * identity + weights * gram, right)
    uncoupled, of_sums = torch.split(solution, [1, len(gram)], -1)
    sums: Tensor = torch.linalg.solve(identity - (weights * (gram @ of_sums)).sum(0), (weights * (gram @ uncoupled)).sum(0))
    return (uncoupled + of_sums @ sums)[..., 0].T


def _length(gram: Tensor, targets: Tensor, regularisation: Tensor, dual: Tensor, move: Tensor) -> Tensor:
    """Choose the length of a Newton step that lowers the objective most; a full step may diverge far from the minimum."""
    lengths = 0.5 ** torch.arange(_HALVINGS, dtype=gram.dtype, device=gram.device)
    candidates = dual + lengths[:, None, None] * move
    logits = gram @ candidates
    losses = -(targets * F.log_softmax(_present(logits, targets), -1)).sum((1, 2))
    best = (losses + regularisation / 2 * (candidates * logits).sum((1, 2))).argmin(0, keepdim=True)
    return lengths.gather(0, best)[0]  # indexing by a scalar tensor would make the host wait for the device
