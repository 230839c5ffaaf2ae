"""What kernel regressions on a table's labels say about each class, as further inputs of a reader of whole tables."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metaloop.learners.context.evidence import Evidence
from metaloop.learners.context.ranks import mid_ranks

_KERNELS = 6
_RIDGES = (0.15, 2.0)
_CLIP = 4.0  # standard deviations
_SHARP = 0.02  # share below which the logarithm of a share becomes linear
_LOWEST, _HIGHEST = -0.1, 1.5  # of a predicted share, which a regression may put beyond [0, 1]


class KernelShares(Evidence):
    """Shares of the classes that kernel ridge regressions predict, of support rows without themselves.

    The targets of a regression are the support's encoded labels; those of a support row come from a fit to all other rows, in
    closed form (Rasmussen and Williams 2006, equation 5.12). Kernels are Laplace's, of two lengths on ranks and of two on
    values, each what an infinite forest of random trees gives (Balog et al. 2016, the Mondrian kernel), a sum of
    one-dimensional ones, for an additive model, and a linear one, all with two ridges. A missing value counts as
    the mean. Each share is given twice: as its logarithm, and as the logarithm of its ratio to the label's share among the
    support rows. Then follow, for each regression, the support's mean log loss, and the logarithms of the numbers of rows and
    columns.

    Args:
        most: highest number of support rows that are fitted; of more, evenly spaced ones are taken.
    """

    answers = 2 * _KERNELS * len(_RIDGES)

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most = most

    def size(self, labels: int) -> int:
        """See :meth:`Evidence.size`."""
        return labels * self.answers + self.answers // 2 + 2

    def forward(self, values: Tensor, known: Tensor, labels: Tensor, real: Tensor) -> Tensor:
        """See :meth:`Evidence.forward`."""
        context = len(labels)
        weight = real.to(values.dtype)
        count = weight.sum().clamp(min=1)
        base = ((labels * weight[:, None]).sum(0) + 0.5) / (count + 1)
        fitted = torch.arange(0, context, -(-context // self.most), device=values.device)
        shares = torch.stack(
            [
                share
                for kernel in _kernels(values, known, real, fitted)
                for share in _predicted(kernel, (labels - base)[fitted], weight[fitted], fitted)
            ],
            -1,
        )  # (rows, labels, regressions)
        shares = (shares + base[:, None]).clamp(_LOWEST, _HIGHEST)
        logs = (_SHARP * F.softplus(shares / _SHARP)).log()
        lifts = F.softplus(shares / base[:, None]).log()
        normal = logs[:context] - logs[:context].logsumexp(1, keepdim=True)
        losses = -((normal * labels[..., None]).sum(1) * weight[:, None]).sum(0) / count
        sizes = torch.stack([count, known[:context].any(0).sum().to(values.dtype)]).log1p() / 5
        each = torch.cat([logs / 2, lifts], -1).flatten(1)
        return torch.cat([each, torch.cat([losses, sizes]).expand(len(values), -1)], 1)


def _kernels(values: Tensor, known: Tensor, real: Tensor, fitted: Tensor) -> list[Tensor]:
    """Values (rows, fitted) of the kernels."""
    context = len(real)
    ranks = mid_ranks(values, values[:context], known[:context] * real[:, None]) * known
    values = values.clamp(-_CLIP, _CLIP)
    columns = known[:context].any(0).sum().clamp(min=1)
    near, far = torch.cdist(ranks, ranks[fitted], p=1), torch.cdist(values, values[fitted], p=1)
    width = columns.sqrt()
    both = torch.cat([values / 2, ranks], 1)
    return [
        *(torch.exp(-near / (length * width)) for length in (0.3, 1.2)),
        *(torch.exp(-far / (length * width)) for length in (0.6, 2.0)),
        _additive(ranks, known[:context].any(0), fitted),
        both @ both[fitted].T / columns,
    ]


def _additive(ranks: Tensor, used: Tensor, fitted: Tensor) -> Tensor:
    """Mean over the ``used`` columns of Laplace's kernel of one column, (rows, fitted)."""
    total = ranks.new_zeros(len(ranks), len(fitted))
    for column in range(ranks.shape[1]):
        one = ranks[:, column]
        total = total + used[column] * torch.exp(-(one[:, None] - one[fitted]).abs() / 0.3)
    return total / used.sum().clamp(min=1)


def _predicted(kernel: Tensor, targets: Tensor, weight: Tensor, fitted: Tensor) -> list[Tensor]:
    """Predictions (rows, labels) for each ridge, of the fitted rows without themselves.

    Args:
        kernel: (rows, fitted).
        targets: (fitted, labels).
        weight: (fitted,) ones for real rows, zeros for padding.
        fitted: (fitted,) places of the fitted rows.
    """
    square = kernel[fitted] * weight[:, None] * weight
    identity = torch.eye(len(fitted), dtype=kernel.dtype, device=kernel.device)
    answers = []
    for ridge in _RIDGES:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(square + ridge * identity).L)
        weights = inverse @ (targets * weight[:, None])
        left_out = targets - weights / inverse.diagonal()[:, None]
        answers.append((kernel @ (weights * weight[:, None])).index_copy(0, fitted, left_out))
    return answers
