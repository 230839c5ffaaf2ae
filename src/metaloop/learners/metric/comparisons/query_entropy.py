"""Transductive heads, fine-tuned on the support labels and on the entropy of the query predictions."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.metric.comparison import Comparison, belongs, check_positive, class_means, squared_distances, unit
from metaloop.problems.task_loss import without_absent_classes
from metaloop.types import Examples

_SMALLEST = 1e-12  # probabilities are clamped to this before the logarithm


class TransductiveFineTuning(Comparison):
    """Fine-tunes class vectors on the support set's cross-entropy plus the queries' entropy (Dhillon et al. 2020, eqs. 5 to 8).

    Class vectors start as the directions of the class means, so the first logits are scaled cosines. The paper classifies the
    pretrained network's class scores instead of its features, and fine-tunes the whole network with Adam. Here only the class
    vectors change, by gradient descent that the outer loop can differentiate.

    Args:
        scale: initial factor of the logits. Learned.
        steps: number of gradient descent steps.
        lr: step size of gradient descent.
        entropy: weight of the queries' entropy.
    """

    transductive: ClassVar[bool] = True

    def __init__(self, scale: float = 10.0, steps: int = 25, lr: float = 0.05, entropy: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(check_positive("scale", scale)))
        self.steps, self.lr = _checked(steps, lr)
        self.entropy = check_positive("entropy", entropy)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        rows, vectors = torch.cat([unit(support), unit(query)]), unit(class_means(unit(support), labels))
        for _ in range(self.steps):
            logits = without_absent_classes(self.scale * rows @ vectors.T, labels)
            slope = slopes(logits, labels, query_mask, known=1.0, marginal=0.0, conditional=self.entropy)
            vectors = vectors - self.lr * self.scale * slope.T @ rows
        return self.scale * rows[len(support) :] @ vectors.T


class TIM(Comparison):
    """Transductive information maximisation: confident predictions that cover all classes (Boudiaf et al. 2020, eq. 3).

    Prototypes of unit features minimise w * cross-entropy of the support set - H(Y) + a * H(Y | X) of the queries. This is
    TIM-GD on a network that was trained to classify. Gradient descent in the place of Adam, with fewer and longer steps, can
    also be trained through, by episodes, which the paper does not do. The marginal entropy assumes that classes are about
    equally frequent among the queries, as in our episodes.

    Args:
        temperature: initial factor of the squared distances. Learned in episodic training only.
        steps: number of steps.
        lr: step size.
        cross_entropy: weight w of the cross-entropy.
        conditional: weight a of the conditional entropy.
        optimizer: "adam" as in the paper, or "gradient_descent".
    """

    transductive: ClassVar[bool] = True

    def __init__(
        self,
        temperature: float = 15.0,
        steps: int = 1000,
        lr: float = 1e-4,
        cross_entropy: float = 0.1,
        conditional: float = 0.1,
        optimizer: str = "adam",
    ) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(check_positive("temperature", temperature)))
        self.steps, self.lr = _checked(steps, lr)
        self.cross_entropy = check_positive("cross_entropy", cross_entropy)
        self.conditional = check_positive("conditional", conditional)
        if optimizer not in _MOVES:
            raise UserError(f"algorithm.comparison.optimizer={optimizer!r}: one of {', '.join(_MOVES)}")
        self.moves = _MOVES[optimizer]

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        rows, means = torch.cat([unit(support), unit(query)]), class_means(unit(support), labels)

        def gradient(means: Tensor) -> Tensor:
            logits = without_absent_classes(-self.temperature / 2 * squared_distances(rows, means), labels)
            slope = slopes(logits, labels, query_mask, known=self.cross_entropy, marginal=1.0, conditional=self.conditional)
            return self.temperature * (slope.T @ rows - slope.sum(0)[:, None] * means)

        means = self.moves(gradient, means, self.steps, self.lr)
        return -self.temperature / 2 * squared_distances(rows[len(support) :], means)


def descended(gradient: Callable[[Tensor], Tensor], start: Tensor, steps: int, lr: float) -> Tensor:
    """Take ``steps`` steps of gradient descent from ``start``."""
    for _ in range(steps):
        start = start - lr * gradient(start)
    return start


def descended_by_adam(gradient: Callable[[Tensor], Tensor], start: Tensor, steps: int, lr: float) -> Tensor:
    """Take ``steps`` steps of Adam from ``start``, with torch's defaults (Kingma and Ba 2015, algorithm 1)."""
    values, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        slope = gradient(values)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        # Clamped, since the root has no derivative at zero, where absent classes are.
        root = (second / (1 - 0.999**step)).clamp(min=_SMALLEST**2).sqrt()
        values = values - lr * first / (1 - 0.9**step) / (root + 1e-8)
    return values


_MOVES = {"adam": descended_by_adam, "gradient_descent": descended}


def slopes(
    logits: Tensor, labels: Examples, query_mask: Tensor | None, *, known: float, marginal: float, conditional: float
) -> Tensor:
    """Gradient with respect to ``logits`` of known * cross-entropy - marginal * H(Y) + conditional * H(Y | X).

    It is written out rather than taken by autograd, so that it works without a graph and under vmap, and can be differentiated.

    Args:
        logits: (examples + queries, ways), the support set's and then the queries'. Absent classes get no probability.
        labels: the task's support examples.
        query_mask: (queries,) which queries are real; None for all.
        known: weight of the mean cross-entropy of the real support examples.
        marginal: weight of the entropy, in nats, of the real queries' mean prediction.
        conditional: weight of the mean entropy, in nats, of the real queries' predictions.
    """
    examples = len(labels.y)
    p = torch.softmax(logits, -1)
    targets = belongs(labels).to(p.dtype).T
    of_support = targets.sum(1, keepdim=True) * p[:examples] - targets
    p = p[examples:]
    real = torch.ones_like(p[:, :1]) if query_mask is None else query_mask[:, None].to(p.dtype)
    share = real / real.sum().clamp(min=1)
    gain = marginal * ((share * p).sum(0).clamp(min=_SMALLEST).log() + 1) - conditional * (p.clamp(min=_SMALLEST).log() + 1)
    of_queries = share * p * (gain - (p * gain).sum(1, keepdim=True))
    return torch.cat([known * of_support / targets.sum().clamp(min=1), of_queries])


def _checked(steps: int, lr: float) -> tuple[int, float]:
    if steps < 1:
        raise UserError(f"algorithm.comparison.steps={steps}: at least 1")
    return steps, check_positive("lr", lr)
