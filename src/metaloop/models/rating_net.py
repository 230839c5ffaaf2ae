"""A network of categories: an embedding of each feature of user and item, and a perceptron on them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.models.model import Model
from metaloop.types import Field

_START = 0.1  # standard deviation of the embeddings at the start


class RatingNet(nn.Module, Model):
    """The network of MeLU (Lee et al. 2019, figure 2): embeddings side by side, decision layers, and a head.

    A feature with several labels has the mean of their embeddings, zeros without any. The authors' network has two decision
    layers of 64 units and embeddings of 32 numbers, no identifiers, and starts embeddings as torch does.

    Parameters: ``embeddings.FIELD.weight``, ``layers.N``, ``head``.

    Args:
        input_shape: (columns,), those of ``fields``.
        outputs: number of outputs of the linear head; None for no head, so that the network returns features.
        fields: features that the columns hold.
        embedding: numbers of an embedding.
        hidden: widths of the decision layers, at least one.
    """

    needs_fields = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        fields: Sequence[Field],
        embedding: int,
        hidden: Sequence[int],
    ) -> None:
        super().__init__()
        if embedding < 1 or not hidden or min(hidden) < 1:
            raise UserError(f"model.embedding={embedding}, model.hidden={list(hidden)}: at least 1, and at least one width")
        if tuple(input_shape) != (sum(field.columns for field in fields),):
            raise ValueError(f"inputs of shape {tuple(input_shape)} do not hold the columns of {fields}")
        self.fields = tuple(fields)
        self.embeddings = nn.ModuleDict({field.name: nn.Embedding(field.size, embedding) for field in fields})
        for table in self.embeddings.values():
            nn.init.normal_(table.weight, std=_START)  # type: ignore[arg-type]
        widths = [embedding * len(self.fields), *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.features = hidden[-1]
        self.head = nn.Linear(self.features, outputs) if outputs is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, columns) int64 to (examples, outputs), or (examples, features) without a head."""
        parts, column = [], 0
        for field in self.fields:
            values, table = x[:, column : column + field.columns], self.embeddings[field.name].weight
            assert isinstance(table, Tensor)
            if field.labels:
                weights = values.to(table.dtype)
                parts.append(weights @ table / weights.sum(1, keepdim=True).clamp(min=1))
            else:
                parts.append(F.embedding(values[:, 0], table))
            column += field.columns
        hidden = torch.cat(parts, 1)
        for layer in self.layers:
            hidden = F.relu(layer(hidden))
        return hidden if self.head is None else self.head(hidden)
