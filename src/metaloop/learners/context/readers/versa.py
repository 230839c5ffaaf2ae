"""Amortised inference of a task's linear classifier (Gordon et al. 2019)."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.inner.noise import normal
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.processes import Perceptron
from metaloop.problems.task_loss import restricted

_STREAM = 3  # of random numbers, see metaloop.inner.noise


class Versa(Reader):
    """VERSA for classification (Gordon et al. 2019, section 3 and equation 4).

    A network maps the mean of a class's support features to a normal distribution over that class's weights and bias,
    independently of the other classes. An answer is the logarithm of the average, over draws from it, of the class
    probabilities. Logits are drawn instead of weights, which gives each query the same distribution. The task's number seeds
    the draws, which are the same for all queries.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: size of hidden layers.
        layers: number of layers of each of the two networks.
        draws: number of draws from each distribution (10 in the paper).
    """

    ordered: ClassVar[bool] = False

    def __init__(self, features: int, labels: int, outputs: int, width: int, layers: int, draws: int) -> None:
        super().__init__()
        if draws < 1:
            raise UserError(f"algorithm.reader.draws={draws}: at least 1")
        self.draws = draws
        self.mean = Perceptron(features, width, features + 1, layers)
        self.log_variance = Perceptron(features, width, features + 1, layers)

    def check(self, *, classifies: bool) -> None:
        """See :meth:`Reader.check`."""
        if not classifies:
            raise UserError("algorithm=versa makes a classifier's weights; for regression take algorithm=tnp or cnp")

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`.

        Raises:
            UserError: the task has no number to seed the draws.
        """
        if number is None:
            raise UserError(
                "algorithm=versa needs the task's number for its draws, but Examples.number is None; pass Tasks, which set it"
            )
        counts = labels.sum(0)
        means = labels.transpose(0, 1) @ support / counts.clamp(min=1)[:, None]  # (labels, features)
        weights, variances = self.mean(means), (self.log_variance(means) - 4).exp()
        inputs = torch.cat([query, torch.ones_like(query[:, :1])], 1)  # 1 multiplies the bias
        noise = normal(number, _STREAM, (self.draws, 1, len(counts)), query.dtype)
        deviation = (inputs.square() @ variances.transpose(0, 1)).clamp(min=1e-12).sqrt()
        logits = restricted(inputs @ weights.transpose(0, 1) + deviation * noise, counts > 0)
        return logits.log_softmax(-1).logsumexp(0) - math.log(self.draws)
