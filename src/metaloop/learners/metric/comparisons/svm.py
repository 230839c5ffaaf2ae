"""MetaOptNet: a support vector machine on the support set."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, check_positive
from metaloop.learners.metric.comparisons.ridge import real_rows
from metaloop.types import Examples

_CENTERING = 0.1  # fraction of the current duality gap that a step aims at
_TO_BOUNDARY = 0.99  # fraction of the way to the nearest bound that a step may take
_SMALLEST = 1e-12  # smallest duality gap of an entry to aim at, as a multiple of c, so that slacks stay positive
_JITTER = 1e-9  # added to the diagonal, relative to the mean squared norm: equal examples make gram singular


class SVM(Comparison):
    """MetaOptNet: the scores of a multi-class support vector machine (Lee et al. 2019, equations 7 and 8).

    The machine is that of Crammer and Singer 2001. It minimises |w|² / 2 + c times the sum over examples of the hinge loss: how
    far the score of the label is from being 1 above those of all other classes.

    Args:
        c: weight of the hinge losses, fixed.
        scale: initial factor of the scores. Learned.
        steps: number of interior-point steps.
    """

    def __init__(self, c: float = 0.1, scale: float = 1.0, steps: int = 20) -> None:
        super().__init__()
        if steps < 1:
            raise UserError(f"algorithm.comparison.steps={steps}: at least 1")
        self.c = check_positive("c", c)
        self.scale = nn.Parameter(torch.tensor(check_positive("scale", scale)))
        self.steps = steps

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        x, targets = real_rows(support, labels)
        dual = crammer_singer(x @ x.T, targets, self.c, self.steps)
        return self.scale * (query.double() @ x.T @ dual).to(query)


def crammer_singer(gram: Tensor, targets: Tensor, c: float, steps: int) -> Tensor:
    """Solve the dual problem for a (examples, ways); the machine's weights are w = x' a.

    It minimises tr(a' gram a) / 2 - tr(a' targets), where rows sum to zero and a is at most c at an example's label and at most
    0 elsewhere. It can be differentiated once, in ``gram``: a last Newton step at the minimum does not change its value but has
    its derivative.

    Args:
        gram: (examples, examples) x x'; zero where an example is padding.
        targets: (examples, ways) one-hot, zero for padding. Classes without an example are ignored.
        c: see :class:`SVM`.
        steps: number of steps of a feasible primal-dual interior-point method; each divides the duality gap by about ten.
    """
    jitter = _JITTER * (gram.diagonal().mean() + 1.0)
    problem = _Problem(gram + jitter * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), targets.T, c)
    with torch.no_grad():
        a, z, nu = problem.start()
        for _ in range(steps):
            a, z, nu = problem.step(a, z, nu)
    # The iterates end at a fixed small gap, which does not depend on gram.
    return (a + problem.direction(a, z, nu, torch.zeros_like(a))[0]).T


@dataclass(frozen=True)
class _Problem:
    """The quadratic program, with classes as the first axis.

    Attributes:
        gram: (examples, examples), positive definite.
        targets: (ways, examples).
        c: weight of the hinge losses.
    """

    gram: Tensor
    targets: Tensor
    c: float

    @property
    def present(self) -> Tensor:
        """Whether each class has an example, as 0 or 1: (ways, 1)."""
        return self.targets.any(1, keepdim=True).to(self.targets.dtype)

    @property
    def bound(self) -> Tensor:
        """Upper bounds of the variables, (ways, examples); c everywhere for padding, which has no effect."""
        return self.c * (self.targets + 1 - self.targets.sum(0))

    def slack(self, a: Tensor) -> Tensor:
        """Distances of the variables to their bounds, (ways, examples); 1 for absent classes."""
        return torch.where(self.present > 0, self.bound - a, 1.0)

    def start(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return strictly feasible a (ways, examples) with multipliers z of its bounds and nu (examples,) of its sums."""
        real = self.targets.sum(0)
        slack = self.c * (real / self.present.sum() + 1 - real)
        a = (self.bound - slack) * self.present
        return a, torch.ones_like(a), torch.zeros_like(a[0])

    def step(self, a: Tensor, z: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take one Newton step towards a smaller duality gap, as far as the bounds allow."""
        slack = self.slack(a)
        gap = (slack * z * self.present).sum() / (self.present.sum() * a.shape[1])
        da, dz, dnu = self.direction(a, z, nu, slack * z - (_CENTERING * gap).clamp(min=_SMALLEST * self.c))
        room = torch.minimum(_room(slack, da), _room(z, -dz * self.present))
        length = (_TO_BOUNDARY * room).clamp(max=1.0)
        return a + length * da, z + length * dz * self.present, nu + length * dnu

    def direction(self, a: Tensor, z: Tensor, nu: Tensor, complementarity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Newton step of the optimality conditions, differentiable through the conditions but not through their Jacobian.

        The classes are coupled only by one sum for each example. So systems of the size of ``gram`` are enough: one for each
        class, and one for nu.
        """
        slack = self.slack(a)
        stationarity = a @ self.gram - self.targets + z + nu
        right = complementarity / slack - stationarity
        hessian = self.gram.detach() + torch.diag_embed(z / slack)
        inverse = torch.linalg.inv(hessian) * self.present[:, :, None]
        uncoupled = (inverse @ right[..., None])[..., 0]
        dnu = torch.linalg.solve(inverse.sum(0), uncoupled.sum(0) + a.sum(0))
        da = uncoupled - inverse @ dnu
        return da, (z * da - complementarity) / slack, dnu


def _room(value: Tensor, fall: Tensor) -> Tensor:
    """Largest scalar step along -``fall`` at which ``value`` stays positive; infinite if no entry falls."""
    return torch.where(fall > 0, value / fall.clamp(min=1e-300), torch.inf).min()
