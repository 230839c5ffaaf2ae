"""Readers that take the support for a set: an average, attention of the queries, a transformer."""

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import Layer, MultiHead
from metaloop.models.norm import LayerNorm


class Perceptron(nn.Module):
    """``layers`` linear layers with ReLU between, from ``inputs`` over ``width`` to ``outputs`` numbers."""

    def __init__(self, inputs: int, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise UserError(f"algorithm.reader.layers={layers}, algorithm.reader.width={width}: at least 1 each")
        widths = [inputs, *[width] * (layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) to (n, outputs)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Mean(Reader):
    """The conditional neural process (Garnelo et al. 2018, equations 1 to 3): pairs are encoded, averaged and decoded.

    In classification the average is over all classes' pairs, where the paper keeps one for each class.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: of hidden layers and of the average.
        layers: of the encoder and of the decoder.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, features: int, labels: int, outputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.encoder = Perceptron(features + labels, width, width, layers)
        self.decoder = Perceptron(features + width, width, outputs, layers)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        encoded = self.encoder(torch.cat([support, labels], 1)) * real[:, None]
        average = encoded.sum(0) / real.sum().clamp(min=1)
        return self.decoder(torch.cat([query, average.expand(len(query), -1)], 1))


class CrossAttention(Reader):
    """The attentive neural process without its latent path (Kim et al. 2019, figure 2, deterministic path).

    Pairs are encoded and look at each other; queries look at them by their features alone.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: of hidden layers and of the attention.
        layers: of the encoder and of the decoder.
        heads: of the attention.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, features: int, labels: int, outputs: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.encoder = Perceptron(features + labels, width, width, layers)
        self.among = MultiHead(width, heads)
        self.place = nn.Linear(features, width)
        self.across = MultiHead(width, heads)
        self.decoder = Perceptron(features + width, width, outputs, layers)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        encoded = self.encoder(torch.cat([support, labels], 1))
        encoded = encoded + self.among(encoded, encoded, encoded, real[None])
        found = self.across(self.place(query), self.place(support), encoded, real[None])
        return self.decoder(torch.cat([query, found], 1))


class Transformer(Reader):
    """A transformer over the support set; in regression with distributions TNP-D (Nguyen and Grover 2022, section 4.1).

    A token is a pair and a mark that it has a label; a query's label is zero. All tokens look at the support's tokens alone,
    so that a query does not see the others. No positions: the support is a set.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: of the tokens.
        layers: of the transformer.
        heads: of its attention.
    """

    ordered: ClassVar[bool] = False

    def __init__(self, features: int, labels: int, outputs: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"algorithm.reader.layers={layers}: at least 1")
        self.token = Perceptron(features + labels + 1, width, width, 2)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.last = LayerNorm(width)
        self.answer = Perceptron(width, width, outputs, 2)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        pairs = torch.cat([support, labels, torch.ones_like(support[:, :1])], 1)
        asked = torch.cat([query, query.new_zeros(len(query), labels.shape[1] + 1)], 1)
        tokens = self.token(torch.cat([pairs, asked]))
        for layer in self.layers:
            tokens = layer(tokens, len(support), real)
        return self.answer(self.last(tokens[len(support) :]))
