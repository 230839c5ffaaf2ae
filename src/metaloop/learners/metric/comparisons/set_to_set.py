"""FEAT: prototypes adapted to each other by self-attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.gradient.functional_model import joined_masks
from metaloop.learners.metric.comparison import (
    AuxiliaryLoss,
    Comparison,
    Embedding,
    Scale,
    belongs,
    class_means,
    squared_distances,
)
from metaloop.models.norm import LayerNorm
from metaloop.problems.task_loss import mean_over_real, restricted
from metaloop.types import Examples


class SetToSet(Comparison, AuxiliaryLoss):
    """FEAT: one layer of self-attention adapts the class means to each other (Ye et al. 2020, eqs. 5 to 7).

    The auxiliary loss (eq. 8) classifies all examples, support and query, by the centres of the classes' examples after
    attention. The paper's dropout in the attention is left out. The paper pretrains the backbone; here that is a choice,
    ``algorithm/regime=classification_then_episodic``.

    Args:
        embedding: size of the model's output.
        scale: factor of the negative squared distances, the inverse of a temperature (64 in the paper).
        balance: weight of the auxiliary loss, 0 for none.
        auxiliary_scale: the factor in the auxiliary loss.
    """

    def __init__(
        self, embedding: Embedding, scale: float = 1 / 64, balance: float = 1.0, auxiliary_scale: float = 1 / 16
    ) -> None:
        super().__init__()
        if balance < 0:
            raise UserError(f"algorithm.comparison.balance={balance}: at least 0")
        width = embedding.width()
        self.scale, self.auxiliary_scale = Scale(scale, learned=False), Scale(auxiliary_scale, learned=False)
        self.balance = balance
        self.asks, self.answers, self.says, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norm = LayerNorm(width)

    def forward(
        self, support: Tensor, labels: Examples, query: Tensor, *, query_mask: Tensor | None, unlabelled: Tensor | None
    ) -> Tensor:
        """See :meth:`Comparison.forward`."""
        centers = self._attended(class_means(support, labels), belongs(labels).any(1))
        scores: Tensor = self.scale(-squared_distances(query, centers))
        return scores

    def auxiliary_loss(self, support: Tensor, labels: Examples, query: Tensor, query_labels: Examples) -> Tensor:
        """See :meth:`AuxiliaryLoss.auxiliary_loss`."""
        features = torch.cat([support, query])
        mask = joined_masks([labels.mask, query_labels.mask], [len(support), len(query)])
        examples = Examples(features, torch.cat([labels.y, query_labels.y]), mask, labels.ways)
        member = belongs(examples)
        centers = class_means(self._attended(features, member[examples.y]), examples)
        logits = restricted(self.auxiliary_scale(-squared_distances(features, centers)), member.any(1))
        return self.balance * mean_over_real(F.cross_entropy(logits, examples.y, reduction="none"), mask)

    def _attended(self, rows: Tensor, allowed: Tensor) -> Tensor:
        """Let each row attend to the rows where ``allowed`` (rows,) or (rows, rows) is true: (rows, features)."""
        scores = self.asks(rows) @ self.answers(rows).T / math.sqrt(rows.shape[1])
        attended = restricted(scores, allowed).softmax(-1) @ self.says(rows)
        changed: Tensor = self.norm(self.out(attended) + rows)
        return changed
