"""Readers of the support as a set: neural processes with an average or attention, and a transformer."""

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
    """A perceptron of ``layers`` linear layers with ReLU between, of sizes ``inputs``, ``width`` and ``outputs``."""

    def __init__(self, inputs: int, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise UserError(f"algorithm.reader.layers={layers}, algorithm.reader.width={width}: at least 1 each")
        widths = [inputs, *[width] * (layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        output: Tensor = self.layers[-1](x)
        return output


class Mean(Reader):
    """The conditional neural process (Garnelo et al. 2018, equations 1 to 3), which encodes pairs, averages and decodes them.

    In classification it averages over the pairs of all classes; the paper keeps one average for each class.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: size of hidden layers and of the average.
        layers: number of layers of the encoder, and of the decoder.
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
        answers: Tensor = self.decoder(torch.cat([query, average.expand(len(query), -1)], 1))
        return answers


class PooledPaths(Reader):
    """The conditional neural process as Nguyen and Grover 2022 build it: several encoders, with layers after the average, too.

    Each of ``paths`` perceptrons encodes the pairs, averages them and maps the average by a perceptron of its own; the decoder
    reads all of these beside the query. It is the network of that paper's CNP.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: size of hidden layers and of an average.
        paths: number of encoders; the authors' code has 2.
        before, after: number of layers of an encoder, and of what its average goes through; 4 and 2 there.
        layers: number of layers of the decoder; 3 there.
    """

    ordered: ClassVar[bool] = False

    def __init__(
        self, features: int, labels: int, outputs: int, width: int, paths: int, before: int, after: int, layers: int
    ) -> None:
        super().__init__()
        if paths < 1 or before < 1 or after < 1:
            raise UserError(f"algorithm.reader.paths={paths}, before={before}, after={after}: at least 1 each")
        self.before = nn.ModuleList(Perceptron(features + labels, width, width, before) for _ in range(paths))
        self.after = nn.ModuleList(Perceptron(width, width, width, after) for _ in range(paths))
        self.decoder = Perceptron(features + paths * width, width, outputs, layers)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        pairs = torch.cat([support, labels], 1)
        averages = [(encode(pairs) * real[:, None]).sum(0) / real.sum().clamp(min=1) for encode in self.before]
        context = torch.cat([after(average[None]) for after, average in zip(self.after, averages, strict=True)], 1)
        answers: Tensor = self.decoder(torch.cat([query, context.expand(len(query), -1)], 1))
        return answers


class CrossAttention(Reader):
    """The attentive neural process without its latent path (Kim et al. 2019, figure 2, deterministic path).

    Encoded pairs attend to each other. Queries attend to them with their features as queries and keys.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: size of hidden layers and of the attention.
        layers: number of layers of the encoder, and of the decoder.
        heads: number of attention heads.
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
        context = self.across(self.place(query), self.place(support), encoded, real[None])
        answers: Tensor = self.decoder(torch.cat([query, context], 1))
        return answers


class Transformer(Reader):
    """A transformer over the support set; with predicted distributions, TNP-D (Nguyen and Grover 2022, section 4.1).

    A token holds features, a label and a flag that is 1 if there is a label; a query's label is zero. All tokens attend to the
    support's tokens only, so queries do not affect each other. There are no position encodings, since the support is a set.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: size of a token.
        layers: number of transformer layers.
        heads: number of attention heads.
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
        queries = torch.cat([query, query.new_zeros(len(query), labels.shape[1] + 1)], 1)
        tokens = self.token(torch.cat([pairs, queries]))
        for layer in self.layers:
            tokens = layer(tokens, len(support), real)
        answers: Tensor = self.answer(self.last(tokens[len(support) :]))
        return answers
