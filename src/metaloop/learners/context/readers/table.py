"""A reader of whole tables, with attention over the features of a row and over the rows of a feature in turn."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import attend
from metaloop.models.norm import LayerNorm


class TableTransformer(Reader):
    """A transformer over the cells of a table (Hollmann et al. 2025, TabPFN v2; Pfefferle et al. 2025, nanoTabPFN).

    Every cell is a token, and so is the target of every row: that of a query is a learned vector. In each layer the tokens of a
    row attend to each other, then the tokens of a column to those of the support rows; no query sees another. The order of rows
    and that of columns do not matter. Columns without a known value in the support set are left out.

    Deviations: one feature a token where TabPFN v2 has two, no random vectors that tell equal columns apart, normalization
    before attention rather than after. In the last layer only the queries' target tokens are computed.

    Args:
        features: twice the number of columns: values, then ones where they are known.
        labels: size of an encoded label.
        outputs: size of an answer.
        width: size of a token, a multiple of ``heads``.
        layers: number of layers.
        heads: number of attention heads.
    """

    ordered = False

    def __init__(self, features: int, labels: int, outputs: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        if features % 2:
            raise UserError(
                f"algorithm.reader: a table's features are values and ones where they are known, not {features} numbers; use "
                f"model=cells and a data set of tables"
            )
        if layers < 1:
            raise UserError(f"algorithm.reader.layers={layers}: at least 1")
        self.cell = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.target = nn.Linear(labels, width)
        self.unknown = nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(TableLayer(width, heads) for _ in range(layers))
        self.answer = nn.Sequential(LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, outputs))

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        rows, context = torch.cat([support, query]), len(support)
        values, known = torch.unflatten(rows, 1, (2, -1)).unbind(1)
        used = (known[:context] * real[:, None]).any(0)  # columns with a value in the support set
        known = known * used
        cells = self.cell(torch.stack([values * known, known], -1))
        targets = torch.cat([self.target(labels), self.unknown.expand(len(query), -1)])
        tokens = torch.cat([cells, targets[:, None]], 1)  # (rows, columns + 1, width)
        columns = torch.cat([used, torch.ones_like(used[:1])])
        for layer in self.layers[:-1]:
            tokens = layer(tokens, context, real, columns)
        answers: Tensor = self.answer(self.layers[-1].last(tokens, context, real, columns))  # type: ignore[operator]
        return answers


class TableLayer(nn.Module):
    """One layer of :class:`TableTransformer`: attention over columns, attention over rows, and a perceptron.

    Args:
        width: size of a token.
        heads: number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.columns, self.rows = CellAttention(width, heads), CellAttention(width, heads)
        self.norm = LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, context: int, real: Tensor, columns: Tensor) -> Tensor:
        """Map tokens (rows, columns, width) to the same shape.

        Args:
            tokens: see above; the first ``context`` rows are the support set.
            context: number of support rows.
            real: (context,) bool, which support rows are real.
            columns: (columns,) bool, which columns are used.
        """
        tokens = self.columns(tokens, tokens, columns)
        across = tokens.transpose(0, 1)
        across = self.rows(across, across[:, :context], real)
        across = across + self.perceptron(self.norm(across))
        result: Tensor = across.transpose(0, 1)
        return result

    def last(self, tokens: Tensor, context: int, real: Tensor, columns: Tensor) -> Tensor:
        """Compute the target tokens (queries, width) of the queries alone; arguments as for :meth:`forward`."""
        target = self.columns(tokens[:, -1:], tokens, columns)[:, 0][None]
        target = self.rows(target[:, context:], target[:, :context], real)
        result: Tensor = (target + self.perceptron(self.norm(target)))[0]
        return result


class CellAttention(nn.Module):
    """Multi-head attention along one axis of a table, with normalization before it and the input added after it.

    Args:
        width: size of a token, a multiple of ``heads``.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(
                f"algorithm.reader.heads={heads}: a number of at least 1 that divides algorithm.reader.width={width}"
            )
        self.heads = heads
        self.norm = LayerNorm(width)
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # softmax ignores what a bias adds to all of a query's scores

    def forward(self, tokens: Tensor, context: Tensor, allowed: Tensor) -> Tensor:
        """Attend along the second axis.

        Args:
            tokens: (batch, m, width).
            context: (batch, n, width), what the tokens attend to.
            allowed: (n,) bool, which of them.

        Returns:
            (batch, m, width).
        """
        normed = self.norm(context)
        split = (self._split(self.query(self.norm(tokens))), self._split(self.key(normed)), self._split(self.value(normed)))
        if torch._C._are_functorch_transforms_active():  # vmap has no rule for the fast kernel
            attended = attend(*split, allowed)
        else:
            attended = F.scaled_dot_product_attention(*split, attn_mask=allowed[None, None, None])
        result: Tensor = tokens + self.out(attended.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """Split (batch, n, width) into heads: (batch, heads, n, width / heads)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)
