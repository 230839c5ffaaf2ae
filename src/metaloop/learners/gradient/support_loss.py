"""Reductions of the support examples' losses to the scalar that an inner step minimises."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.problems.task_loss import TaskLoss, mean_over_real


class SupportLoss(nn.Module, ABC):
    """A reduction over support examples. Its ``nn.Parameter`` s are meta-parameters.

    Attributes:
        of: loss of a support example that inner steps descend; None for the problem's, which the outer loss has anyway.
    """

    of: TaskLoss | None = None

    @abstractmethod
    def forward(self, losses: Tensor, mask: Tensor | None) -> Tensor:
        """Reduce ``losses`` (examples,) to a scalar; ``mask`` (examples,) is true for real examples, None if all are."""


class MeanLoss(SupportLoss):
    """The mean over the real support examples.

    Args:
        of: see :class:`SupportLoss`.
    """

    def __init__(self, of: TaskLoss | None = None) -> None:
        super().__init__()
        self.of = of

    def forward(self, losses: Tensor, mask: Tensor | None) -> Tensor:
        """See :meth:`SupportLoss.forward`."""
        return mean_over_real(losses, mask)


class LearnedWeights(SupportLoss):
    """Weights each example's gradient by a learned function of its loss, after Meta-Weight-Net (Shu et al. 2019, eq. 3).

    Steps minimise the mean of ``P(l_i)``, where ``P(0) = 0`` and ``P'(l) = v(l)``. Its gradient is the mean of
    ``v(l_i) grad l_i``, the paper's weighted step. Since it is a function of the parameters, the meta-gradient is exact through
    all steps. The authors instead treat the loss that enters the weight network as a constant. For P to have a closed form, v
    is a mixture of sigmoids, ``v(l) = 2 sum_k a_k sigmoid(r_k (l - c_k))``, with shares a (a softmax), slopes r of both signs
    and centres c; the authors' network has 100 ReLU units and a sigmoid. Weights lie in (0, 2) and all start at 1, so training
    starts as MAML.

    Args:
        units: number of sigmoids, which is even: half of them rise, half fall.
        highest: the centres start evenly spaced from 0 to this loss.
    """

    signs: Tensor

    def __init__(self, units: int, highest: float) -> None:
        super().__init__()
        if units < 2 or units % 2:
            raise UserError(f"algorithm.support_loss.units={units}: an even number of at least 2")
        if not highest > 0:
            raise UserError(f"algorithm.support_loss.highest={highest}: a loss above 0")
        self.shares = nn.Parameter(torch.zeros(units))  # before the softmax
        self.centres = nn.Parameter(torch.linspace(0, highest, units // 2).repeat(2))
        self.log_slopes = nn.Parameter(torch.zeros(units))
        self.register_buffer("signs", torch.tensor([1.0, -1.0]).repeat_interleave(units // 2), persistent=False)

    def forward(self, losses: Tensor, mask: Tensor | None) -> Tensor:
        """See :meth:`SupportLoss.forward`."""
        slopes = self._slopes()
        integrals = (F.softplus(slopes * (losses[:, None] - self.centres)) - F.softplus(-slopes * self.centres)) / slopes
        return mean_over_real(2 * (integrals * self.shares.softmax(0)).sum(1), mask)

    def _slopes(self) -> Tensor:
        return self.signs * self.log_slopes.exp()

    def weights(self, losses: Tensor) -> Tensor:
        """Evaluate v at ``losses`` (examples,): (examples,)."""
        slopes = self._slopes()
        return 2 * (torch.sigmoid(slopes * (losses[:, None] - self.centres)) * self.shares.softmax(0)).sum(1)
