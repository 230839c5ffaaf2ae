"""How the losses of the support examples become the scalar that an inner step descends."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from metaloop.learners.task_loss import mean_over_real


class SupportLoss(nn.Module, ABC):
    """A reduction over support examples. Its ``nn.Parameter`` s are meta-parameters."""

    @abstractmethod
    def forward(self, losses: Tensor, mask: Tensor | None) -> Tensor:
        """Scalar: of ``losses`` (examples,), where ``mask`` (examples,) says which examples are real; None for all."""


class Mean(SupportLoss):
    """Every support example counts alike."""

    def forward(self, losses: Tensor, mask: Tensor | None) -> Tensor:
        """See :meth:`SupportLoss.forward`."""
        return mean_over_real(losses, mask)
