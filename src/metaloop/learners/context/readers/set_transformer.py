"""The set transformer: attention blocks with inducing points, and pooling by attention (Lee et al. 2019)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import attend
from metaloop.learners.context.readers.processes import Perceptron
from metaloop.models.norm import LayerNorm


class AttentionBlock(nn.Module):
    """A multihead attention block MAB(X, Y): X attends to Y, with a residual and one layer after it (equations 6 and 7).

    As in the authors' code, the residual is the projected X, scores are divided by the root of the whole width, and the layer
    after the attention is one linear layer with ReLU.

    Args:
        queries: size of the rows of X.
        keys: size of the rows of Y.
        width: size of the rows of the result, a multiple of ``heads``.
        heads: number of heads.
        norm: whether layer norm follows the two sums, as in the paper's equations. Its experiments' code leaves it out.
    """

    def __init__(self, queries: int, keys: int, width: int, heads: int, norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Linear(queries, width), nn.Linear(keys, width)
        # A bias would add the same number to all of a query's scores, which softmax ignores.
        self.key = nn.Linear(keys, width, bias=False)
        self.out = nn.Linear(width, width)
        self.norms = nn.ModuleList(LayerNorm(width) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, y: Tensor, real: Tensor) -> Tensor:
        """Map x (m, queries) and y (n, keys) to (m, width); ``real`` (n,) is true for rows of y to attend to."""
        query = self.query(x)
        # ``attend`` divides by the root of a head's width.
        parts = (self._split(query) * self.heads**-0.5, self._split(self.key(y)), self._split(self.value(y)))
        summed = self.norms[0](query + attend(*parts, real[None]).transpose(0, 1).flatten(1))
        changed: Tensor = self.norms[1](summed + F.relu(self.out(summed)))
        return changed

    def _split(self, x: Tensor) -> Tensor:
        """Split (n, width) into heads: (heads, n, width / heads)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(0, 1)


class InducedBlock(nn.Module):
    """An induced set attention block ISAB(X) = MAB(X, MAB(I, X)) with learned points I (equations 9 and 10).

    Its cost grows with examples times inducing points, not with the square of the examples.

    Args:
        width, heads, norm: see :class:`AttentionBlock`; rows of X have the size ``width``.
        inducing: number of inducing points.
    """

    def __init__(self, width: int, heads: int, norm: bool, inducing: int) -> None:
        super().__init__()
        self.points = _points(inducing, width)
        self.induced = AttentionBlock(width, width, width, heads, norm)
        self.answered = AttentionBlock(width, width, width, heads, norm)

    def forward(self, x: Tensor, real: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Map the set x (n, width), and rows that are no part of it, others (q, width), to the same shapes."""
        points = self.induced(self.points[0], x, real)
        everywhere = torch.ones_like(points[:, 0], dtype=torch.bool)
        return self.answered(x, points, everywhere), self.answered(others, points, everywhere)


class SetTransformer(Reader):
    """A set transformer that encodes the support, and a perceptron of a query and the code (Lee et al. 2019, section 3).

    The support's (features, label) pairs pass induced set attention blocks. Pooling by multihead attention (equation 11) lets
    ``seeds`` learned vectors attend to them, and a self-attention block relates the results (equation 14). The paper maps sets
    to answers and has no queries. Here each query passes the induced blocks without a label, as no part of the set, and is one
    more seed. Its answer is a perceptron of its features, of what it pools, and of what the learned seeds pool. The pool's keys
    start as its queries, so that a query attends to what is like itself from the beginning, of which meta-training finds little
    trace otherwise.

    Args:
        features, labels, outputs: see :class:`Reader`.
        width: size of the rows of each block.
        layers: number of induced blocks.
        heads: number of attention heads, which divides ``width``.
        inducing: number of inducing points of a block.
        seeds: number of vectors that a support set is pooled to.
        norm: whether blocks have layer norm.
    """

    ordered: ClassVar[bool] = False

    def __init__(
        self,
        features: int,
        labels: int,
        outputs: int,
        width: int,
        layers: int,
        heads: int,
        inducing: int,
        seeds: int,
        norm: bool,
    ) -> None:
        super().__init__()
        for key, value in (("layers", layers), ("inducing", inducing), ("seeds", seeds)):
            if value < 1:
                raise UserError(f"algorithm.reader.{key}={value}: at least 1")
        if heads < 1 or width < 1 or width % heads:
            raise UserError(
                f"algorithm.reader.heads={heads}: a number of at least 1 that divides algorithm.reader.width={width}"
            )
        # With one layer for both, a few labels would hardly show beside many features.
        self.place, self.label = nn.Linear(features, width), nn.Linear(labels, width, bias=False)
        self.blocks = nn.ModuleList(InducedBlock(width, heads, norm, inducing) for _ in range(layers))
        self.seeds = _points(seeds, width)
        self.pool = AttentionBlock(width, width, width, heads, norm)
        self.among = AttentionBlock(width, width, width, heads, norm) if seeds > 1 else None
        with torch.no_grad():
            self.pool.key.weight.copy_(self.pool.query.weight)
        self.decoder = Perceptron(features + (1 + seeds) * width, width, outputs, 3)

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        pairs, own = self.place(support) + self.label(labels), self.place(query)
        for block in self.blocks:
            pairs, own = block(pairs, real, own)
        code = self.pool(self.seeds[0], pairs, real)
        if self.among is not None:
            code = self.among(code, code, torch.ones_like(code[:, 0], dtype=torch.bool))
        pooled = self.pool(own, pairs, real)
        answers: Tensor = self.decoder(torch.cat([query, pooled, code.flatten().expand(len(query), -1)], 1))
        return answers


def _points(count: int, width: int) -> nn.Parameter:
    """Make learned vectors (1, count, width), which start as in the authors' code."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, count, width)))
