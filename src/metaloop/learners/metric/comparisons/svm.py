"""A support vector machine on the support set as a head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, check_positive
from metaloop.learners.metric.comparisons.ridge import real_rows
from metaloop.types import Examples

_CENTRING = 0.1  # share of the present duality gap that a step aims at
_TO_BOUNDARY = 0.99  # share of the way to the nearest bound that a step may go
_SMALLEST = 1e-12  # duality gap an entry, as a multiple of c, below which none is aimed at: slacks must not vanish
_JITTER = 1e-9  # of the mean squared feature norm, so that equal examples leave the systems solvable


class SVM(Comparison):
    """MetaOptNet: the scores of a multi-class support vector machine (Lee et al. 2019, equations 7 and 8).

    The machine is that of Crammer and Singer 2001: minimise |w|² / 2 + c times the sum over examples of how much the label's
    score fails to be 1 above every other class's.

    Args:
        c: weight of the margins, fixed.
        scale: where the factor of the scores starts. Learned.
        steps: of the interior-point method.
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
    """(examples, ways) dual variables a: w = x' a is the machine's weights.

    They minimise tr(a' gram a) / 2 - tr(a' targets) with rows that sum to zero and a at most c at an example's label, at most
    0 elsewhere. Differentiable in ``gram``, once: the last Newton step changes nothing at the minimum but has its derivative.

    Args:
        gram: (examples, examples) x x'; zero where an example is padding.
        targets: (examples, ways) one-hot, zero for padding. Classes without an example take no part.
        c: see :class:`SVM`.
        steps: of a primal-dual interior-point method that stays feasible; each makes the duality gap about ten times smaller.
    """
    tiny = _JITTER * (gram.diagonal().mean() + 1.0)
    problem = _Problem(gram + tiny * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), targets.T, c)
    with torch.no_grad():
        a, z, nu = problem.start()
        for _ in range(steps):
            a, z, nu = problem.step(a, z, nu)
    # The path ends at a fixed small gap, which is no function of gram.
    return (a + problem.direction(a, z, nu, torch.zeros_like(a))[0]).T


@dataclass(frozen=True)
class _Problem:
    """The quadratic programme, classes first.

    Attributes:
        gram: (examples, examples), positive definite.
        targets: (ways, examples).
        c: weight of the margins.
    """

    gram: Tensor
    targets: Tensor
    c: float

    @property
    def present(self) -> Tensor:
        """(ways, 1) of 0 and 1: whether a class has an example."""
        return self.targets.any(1, keepdim=True).to(self.targets.dtype)

    @property
    def bound(self) -> Tensor:
        """(ways, examples) upper bounds; padding, which moves nothing, gets room at every class."""
        return self.c * (self.targets + 1 - self.targets.sum(0))

    def slack(self, a: Tensor) -> Tensor:
        """(ways, examples): how far below their bounds the variables are; some positive number for absent classes."""
        return torch.where(self.present > 0, self.bound - a, 1.0)

    def start(self) -> tuple[Tensor, Tensor, Tensor]:
        """Variables a (ways, examples), multipliers z of their bounds and nu (examples,) of the sums, all strictly feasible."""
        real = self.targets.sum(0)
        slack = self.c * (real / self.present.sum() + 1 - real)
        a = (self.bound - slack) * self.present
        return a, torch.ones_like(a), torch.zeros_like(a[0])

    def step(self, a: Tensor, z: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One Newton step towards a smaller duality gap, as far as the bounds allow."""
        slack = self.slack(a)
        gap = (slack * z * self.present).sum() / (self.present.sum() * a.shape[1])
        da, dz, dnu = self.direction(a, z, nu, slack * z - (_CENTRING * gap).clamp(min=_SMALLEST * self.c))
        room = torch.minimum(_room(slack, da), _room(z, -dz * self.present))
        length = (_TO_BOUNDARY * room).clamp(max=1.0)
        return a + length * da, z + length * dz * self.present, nu + length * dnu

    def direction(self, a: Tensor, z: Tensor, nu: Tensor, complementarity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The Newton step of the optimality conditions; differentiable through the conditions, not through their Jacobian.

        Classes are coupled by one sum an example, so systems of the size of ``gram`` are enough: one a class, and one for nu.
        """
        slack = self.slack(a)
        stationarity = a @ self.gram - self.targets + z + nu
        right = complementarity / slack - stationarity
        curved = self.gram.detach() + torch.diag_embed(z / slack)
        inverse = torch.linalg.inv(curved) * self.present[:, :, None]
        moved = (inverse @ right[..., None])[..., 0]
        dnu = torch.linalg.solve(inverse.sum(0), moved.sum(0) + a.sum(0))
        da = moved - inverse @ dnu
        return da, (z * da - complementarity) / slack, dnu


def _room(value: Tensor, fall: Tensor) -> Tensor:
    """Scalar: the largest step along -``fall`` at which ``value`` stays positive; infinite where nothing falls."""
    return torch.where(fall > 0, value / fall.clamp(min=1e-300), torch.inf).min()
