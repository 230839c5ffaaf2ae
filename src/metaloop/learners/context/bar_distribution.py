"""Bar distributions: densities of a number that are constant on each of several bars."""

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

_TAIL = 0.01  # weight of the wide normal density, without which a target beyond the support's would have no density
_TAIL_SCALE = 3.0  # its standard deviation
_NARROWEST = 0.02  # width of a bar between equal targets


@dataclass(frozen=True)
class BarDistribution:
    """The bars of one task: intervals that hold equally many of the support's targets (Mueller et al. 2022, appendix E).

    Deviations: the borders are quantiles of the task's own support set, where the paper's are of all meta-training targets,
    and a hundredth of the probability is normal around 0, where the paper's outer bars have half-normal tails. Targets are in
    standard deviations of the support set.

    Attributes:
        inner: (bars - 1,) borders between bars, in ascending order.
        lowest: () lower end of the first bar.
        widths: (bars,) width of each bar, at least 0.02.
        centers: (bars,) mean of the support's targets in each bar; its middle if it has none.
    """

    inner: Tensor
    lowest: Tensor
    widths: Tensor
    centers: Tensor

    @classmethod
    def of(cls, targets: Tensor, real: Tensor, count: int) -> Self:
        """Make ``count`` bars from a support set.

        Args:
            targets: (examples,).
            real: (examples,) bool, false for padding.
            count: number of bars.
        """
        ordered = targets.masked_fill(~real, torch.inf).sort().values
        number = real.sum()
        place = torch.arange(1, count, device=targets.device) * number // count
        last = (number - 1).clamp(min=0)
        below, above = ordered[(place - 1).clamp(min=0)], ordered[torch.minimum(place, last)]
        inner = (below + above) / 2
        step = (ordered[last] - ordered[0]) / count  # the outer bars reach beyond the targets
        lowest, highest = ordered[0] - step / 2, ordered[last] + step / 2
        widths = torch.cat([inner, highest[None]]) - torch.cat([lowest[None], inner])
        member = _places(inner, targets, count) * real[:, None]
        middle = torch.cat([lowest[None], inner]) + widths / 2
        held = member.sum(0)
        centers = torch.where(held > 0, (member * targets[:, None]).sum(0) / held.clamp(min=1), middle)
        return cls(inner, lowest, widths.clamp(min=_NARROWEST), centers)

    def places(self, targets: Tensor) -> Tensor:
        """The bar of each target (n,) as a one-hot vector, (n, bars)."""
        return _places(self.inner, targets, len(self.widths))

    def negative_log_density(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Negative logarithm (n,) of the density at ``targets`` (n,), from ``logits`` (n, bars), in nats."""
        at = self.places(targets)
        ends = torch.cat([self.lowest[None], self.inner])
        offset = targets - (at * ends).sum(1)
        inside = (offset >= 0) & (offset <= (at * self.widths).sum(1))
        height = (logits.log_softmax(-1) - self.widths.log() + math.log(1 - _TAIL)) * at
        tail = math.log(_TAIL / _TAIL_SCALE / math.sqrt(2 * math.pi)) - (targets / _TAIL_SCALE).square() / 2
        return -torch.logaddexp(height.sum(1).masked_fill(~inside, -1e4), tail)

    def moments(self, logits: Tensor) -> Tensor:
        """Means and standard deviations (n, 2) of the bars' part of the density, from ``logits`` (n, bars)."""
        p = logits.softmax(-1)
        mean = p @ self.centers
        spread = (p * ((self.centers - mean[:, None]).square() + self.widths.square() / 12)).sum(1)
        return torch.stack([mean, spread.sqrt()], -1)

    def quantiles(self, logits: Tensor, levels: Tensor) -> Tensor:
        """Quantiles (n, levels) of the bars' part of the density at ``levels`` (levels,), from ``logits`` (n, bars)."""
        p = logits.softmax(-1)
        up_to = p.cumsum(-1)
        bar = (up_to[:, None] < levels[:, None]).sum(-1).clamp(max=p.shape[1] - 1)  # (n, levels)
        before = up_to.gather(1, bar) - p.gather(1, bar)
        share = ((levels - before) / p.gather(1, bar).clamp(min=1e-12)).clamp(0, 1)
        ends = torch.cat([self.lowest[None], self.inner])
        return ends[bar] + share * self.widths[bar]


def _places(inner: Tensor, targets: Tensor, count: int) -> Tensor:
    place = (targets.detach()[:, None] > inner).sum(1)
    return F.one_hot(place, count).to(targets.dtype)
