"""DropBlock, dropout of whole squares of a feature map (Ghiasi et al. 2018, Algorithm 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError


class DropBlock(nn.Module):
    """Dropout of random squares in every channel; the other numbers are scaled up, so that the mean is kept.

    It acts in training only. The rate grows linearly with the training passes, as in the code of Lee et al. (2019):
    ``rate * passes / ramp``. The count is a buffer, so that a resumed run continues it. Passes under the transforms of
    ``torch.func`` cannot be counted.

    Args:
        rate: final share of the places that is dropped, in [0, 1).
        size: side of a square, in places; a smaller map loses squares of its own side.
        ramp: training passes until ``rate`` is reached; 0 starts with it.
    """

    passes: Tensor

    def __init__(self, rate: float, size: int, ramp: int) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f"model.drop_rate={rate!r}: a share from 0 to below 1")
        if size < 1 or ramp < 0:
            raise UserError(f"model.drop_size={size!r}, model.drop_ramp={ramp!r}: places, at least 1; passes, at least 0")
        self.rate, self.size, self.ramp = rate, size, ramp
        self.register_buffer("passes", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (examples, channels, height, width) with some squares set to zero."""
        if not self.training or not self.rate:
            return x
        rate = self._rate()
        height, width = x.shape[-2:]
        size = min(self.size, height, width)
        # Corners are drawn only where the whole square fits. With this chance the expected share of dropped places is the rate.
        chance = rate * height * width / (size**2 * (height - size + 1) * (width - size + 1))
        corners = torch.rand_like(x[..., : height - size + 1, : width - size + 1]) < chance
        kept = 1 - F.max_pool2d(F.pad(corners.to(x.dtype), (size - 1,) * 4), size, 1)
        return x * kept / kept.mean().clamp(min=1 / kept.numel())

    def _rate(self) -> Tensor:
        if not self.ramp:
            return torch.full_like(self.passes, self.rate)
        if torch._C._functorch.maybe_current_level() is None:
            self.passes.add_(1)
        return self.rate * (self.passes / self.ramp).clamp(max=1)
