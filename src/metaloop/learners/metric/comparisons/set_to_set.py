"""Prototypes that know of each other."""

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

    Its auxiliary loss (eq. 8) asks that the centres of the classes' attended examples, support and query, tell all of them
    apart. The paper's dropout in the attention is left out, and the backbone need not be pretrained: for that take
    ``algorithm/regime=classification_then_episodic``.

    Args:
        embedding: what the model answers.
        scale: of minus squared distances; the authors' temperature is 64.
        balance: weight of the auxiliary loss, 0 for none.
        auxiliary_scale: the same as ``scale`` in the auxiliary loss.
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
        centres = self._attended(class_means(support, labels), belongs(labels).any(1))
        return self.scale(-squared_distances(query, centres))

    def auxiliary_loss(self, support: Tensor, labels: Examples, query: Tensor, asked: Examples) -> Tensor:
        """See :meth:`AuxiliaryLoss.auxiliary_loss`."""
        features = torch.cat([support, query])
        mask = joined_masks([labels.mask, asked.mask], [len(support), len(query)])
        everyone = Examples(features, torch.cat([labels.y, asked.y]), mask, labels.ways)
        member = belongs(everyone)
        centres = class_means(self._attended(features, member[everyone.y]), everyone)
        logits = restricted(self.auxiliary_scale(-squared_distances(features, centres)), member.any(1))
        return self.balance * mean_over_real(F.cross_entropy(logits, everyone.y, reduction="none"), mask)

    def _attended(self, rows: Tensor, seen: Tensor) -> Tensor:
        """(rows, features): each row after a look at those that ``seen`` (rows,) or (rows, rows) lets it see."""
        scores = self.asks(rows) @ self.answers(rows).T / math.sqrt(rows.shape[1])
        found = restricted(scores, seen).softmax(-1) @ self.says(rows)
        return self.norm(self.out(found) + rows)
