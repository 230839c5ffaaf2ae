"""A reader of whole tables, with attention over the features of a row and over the rows of a feature in turn."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.learners.context.evidence import Evidence
from metaloop.learners.context.ranks import mid_ranks, normal_scores
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers.attention import attend
from metaloop.models.norm import LayerNorm


class TableTransformer(Reader):
    """A transformer over the cells of a table (Hollmann et al. 2025, TabPFN v2; Pfefferle et al. 2025, nanoTabPFN).

    Every cell is a token, and so is the target of every row: that of a query is a learned vector. A cell is its value and its
    rank among the support set's values of the column, which outliers do not change. In each layer the tokens of a
    row attend to each other, then the tokens of a column to those of the support rows; no query sees another. The order of rows
    and that of columns do not matter. Columns without a known value in the support set are left out.

    Deviations: one feature a token where TabPFN v2 has two, no random vectors that tell equal columns apart, normalization
    before attention rather than after and without weights of its own, ranks. In the last layer only the queries' target tokens
    are computed. In a loop over tasks, padded rows and unused columns are cut off, which changes nothing but the time.

    Args:
        features: twice the number of columns: values, then ones where they are known.
        labels: size of an encoded label.
        outputs: size of an answer.
        width: size of a token, a multiple of ``heads``.
        layers: number of layers.
        heads: number of attention heads.
        members: number of versions of a task whose predicted probabilities, or values, are averaged outside of training. The
            first is the task as it is; others have their classes permuted at random, and in every second one a value is the
            normal score of its rank.
        evidence: further numbers about each row, which are added to its target token by a linear map; None for none. Those
            about an entry of a label are added to its answer, too, weighted by a linear map of the query's last token.
        temperature: what the logits of classes or bars are divided by outside of training, above 0 (Guo et al. 2017); with
            several members those of their average.
        usual_rows: support rows at which attention over rows is as in other transformers. Its scores are multiplied by
            log(rows) / log(usual_rows), so that it stays as sharp in larger tables (scalable softmax, Nakanishi 2025,
            equation 2, whose factor is learned; here the queries' linear map learns it). None: they are not.
    """

    ordered = False

    def __init__(
        self,
        features: int,
        labels: int,
        outputs: int,
        width: int,
        layers: int,
        heads: int,
        members: int = 1,
        usual_rows: int | None = None,
        evidence: Evidence | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if features % 2:
            raise UserError(
                f"algorithm.reader: a table's features are values and ones where they are known, not {features} numbers; use "
                f"model=cells and a data set of tables"
            )
        if layers < 1:
            raise UserError(f"algorithm.reader.layers={layers}: at least 1")
        if members < 1:
            raise UserError(f"algorithm.reader.members={members}: at least 1")
        if usual_rows is not None and usual_rows < 2:
            raise UserError(f"algorithm.reader.usual_rows={usual_rows}: at least 2, or null")
        if not temperature > 0:
            raise UserError(f"algorithm.reader.temperature={temperature}: above 0")
        self.members, self.temperature = members, temperature
        self.cell = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.target = nn.Linear(labels, width)
        self.unknown = nn.Parameter(0.02 * torch.randn(width))
        self.evidence = evidence
        self.weigh = None if evidence is None else nn.Linear(evidence.size(labels), width)
        self.trust = None if evidence is None or not evidence.answers else _Trust(width, evidence.answers)
        if self.trust is not None and self.weigh is not None:  # so that a network trained without evidence starts as it was
            nn.init.zeros_(self.weigh.weight)
            nn.init.zeros_(self.weigh.bias)
        self.layers = nn.ModuleList(TableLayer(width, heads, usual_rows) for _ in range(layers))
        self.answer = nn.Sequential(_norm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, outputs))

    def forward(self, support: Tensor, labels: Tensor, real: Tensor, query: Tensor, number: Tensor | None) -> Tensor:
        """See :meth:`Reader.forward`."""
        (values, known), (new, new_known) = (torch.unflatten(each, 1, (2, -1)).unbind(1) for each in (support, query))
        used = (known * real[:, None]).any(0)  # columns with a value in the support set
        if not _is_traced() and bool(real.any()):
            values, known, labels = values[real][:, used], known[real][:, used], labels[real]
            new, new_known, real, used = new[:, used], new_known[:, used], real[real], used[used]
        seen = torch.cat([known, new_known]) * used
        ranks = mid_ranks(torch.cat([values, new]), values, known * real[:, None])
        cells = torch.stack([torch.cat([values, new]) * seen, ranks * seen, seen], -1)
        evidence = None if self.evidence is None else self.evidence(cells[..., 0], cells[..., 2], labels, real)
        if self.training:
            return self._answer(cells, labels, real, used, evidence)
        if self.members == 1:
            answers = self._answer(cells, labels, real, used, evidence)
        else:
            answers = self._averaged(cells, labels, real, used, evidence, 0 if number is None else int(number))
        return answers / (self.temperature if labels.shape[1] > 1 else 1.0)

    def _averaged(
        self, cells: Tensor, labels: Tensor, real: Tensor, used: Tensor, evidence: Tensor | None, seed: int
    ) -> Tensor:
        """Answers (queries, outputs) averaged over the members; arguments as for :meth:`_answer`, and a seed."""
        generator = torch.Generator().manual_seed(seed)
        classes = int(labels.any(0).nonzero().amax()) + 1 if labels.shape[1] > 1 else 0  # 0 in regression
        scores = torch.cat([normal_scores(cells[..., 1:2]), cells[..., 1:]], -1)
        answers = []
        for member in range(self.members):
            order = torch.arange(labels.shape[1])
            order[:classes] = torch.randperm(classes, generator=generator) if member else order[:classes]
            order = order.to(labels.device)
            numbers = None if evidence is None else self._permuted(evidence, order)
            answer = self._answer(scores if member % 2 else cells, labels[:, order], real, used, numbers)
            if classes:
                answer = answer[:, order.argsort()].log_softmax(-1)
            answers.append(answer)
        return torch.stack(answers).logsumexp(0) - math.log(len(answers)) if classes else torch.stack(answers).mean(0)

    def _permuted(self, evidence: Tensor, order: Tensor) -> Tensor:
        """The evidence about each entry of a label in the ``order`` of the entries."""
        each, rest = self._about_entries(evidence, len(order))
        return torch.cat([each[:, order].flatten(1), rest], 1)

    def _about_entries(self, evidence: Tensor, labels: int) -> tuple[Tensor, Tensor]:
        """The evidence about each entry of a label (rows, labels, answers), and the other numbers of a row."""
        count = 0 if self.evidence is None else self.evidence.answers
        each = evidence[:, : labels * count].reshape(len(evidence), labels, count)
        return each, evidence[:, labels * count :]

    def _answer(self, cells: Tensor, labels: Tensor, real: Tensor, used: Tensor, evidence: Tensor | None) -> Tensor:
        """Answer the queries, (queries, outputs).

        Args:
            cells: (rows, columns, 3) value, rank and whether they are known; the first rows are the support set.
            labels: (context, labels), encoded labels of the support set.
            real: (context,) bool, which support rows are real.
            used: (columns,) bool, which columns are used.
            evidence: (rows, numbers), if the reader has any.
        """
        context = len(labels)
        targets = torch.cat([self.target(labels), self.unknown.expand(len(cells) - context, -1)])
        if evidence is not None and self.weigh is not None:
            targets = targets + self.weigh(evidence)
        tokens = torch.cat([self.cell(cells), targets[:, None]], 1)  # (rows, columns + 1, width)
        columns = torch.cat([used, used.new_ones(1)])
        for layer in self.layers[:-1]:
            tokens = layer(tokens, context, real, columns)
        last: Tensor = self.layers[-1].last(tokens, context, real, columns)  # type: ignore[operator]
        answers: Tensor = self.answer(last)
        if evidence is not None and self.trust is not None:
            answers = answers + self.trust(last, self._about_entries(evidence[context:], labels.shape[1])[0])
        return answers


class _Trust(nn.Module):
    """How much each number of the evidence about an entry of a label counts for the answer, by the query's token.

    At first nothing counts.

    Args:
        width: size of a token.
        answers: numbers about an entry.
    """

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.weights = nn.Linear(width, answers)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def forward(self, tokens: Tensor, each: Tensor) -> Tensor:
        """Sums (queries, labels) of ``each`` (queries, labels, answers), weighted by ``tokens`` (queries, width)."""
        sums: Tensor = (self.weights(self.norm(tokens))[:, None] * each).sum(-1)
        return sums


class TableLayer(nn.Module):
    """One layer of :class:`TableTransformer`: attention over columns, attention over rows, and a perceptron.

    Args:
        width: size of a token.
        heads: number of attention heads.
        usual_rows: see :class:`TableTransformer`.
    """

    def __init__(self, width: int, heads: int, usual_rows: int | None = None) -> None:
        super().__init__()
        self.columns, self.rows = CellAttention(width, heads), CellAttention(width, heads, usual_rows)
        self.norm = _norm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, context: int, real: Tensor, columns: Tensor) -> Tensor:
        """Map tokens (rows, columns, width) to the same shape.

        Args:
            tokens: see above; the first ``context`` rows are the support set.
            context: number of support rows.
            real: (context,) bool, which support rows are real.
            columns: (columns,) bool, which columns are used.
        """
        tokens = self.columns(tokens, len(columns), columns)
        across = self.rows(tokens.transpose(0, 1), context, real)
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
        usual: number of tokens attended to at which scores are as usual; see ``usual_rows`` of :class:`TableTransformer`.
    """

    def __init__(self, width: int, heads: int, usual: int | None = None) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(
                f"algorithm.reader.heads={heads}: a number of at least 1 that divides algorithm.reader.width={width}"
            )
        self.heads, self.usual = heads, usual
        self.norm = _norm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        # One product is faster than two. Softmax ignores a bias of keys, and a bias of values is one of ``out``.
        self.key_and_value = nn.Linear(width, 2 * width, bias=False)

    def forward(self, tokens: Tensor, context: Tensor | int, allowed: Tensor) -> Tensor:
        """Attend along the second axis.

        Args:
            tokens: (batch, m, width).
            context: (batch, n, width), what the tokens attend to, or n for the first n of themselves.
            allowed: (n,) bool, which of them.

        Returns:
            (batch, m, width).
        """
        normed = self.norm(tokens)
        seen = normed[:, :context] if isinstance(context, int) else self.norm(context)
        keys, values = self.key_and_value(seen).chunk(2, -1)
        queries = self.query(normed)
        if self.usual is not None:
            queries = queries * (allowed.sum().clamp(min=2).log() / math.log(self.usual)).to(queries.dtype)
        split = (self._split(queries), self._split(keys), self._split(values))
        if _is_traced():  # vmap has no rule for the fast kernel
            attended = attend(*split, allowed)
        else:
            attended = F.scaled_dot_product_attention(*split, attn_mask=None if bool(allowed.all()) else allowed[None])
        result: Tensor = tokens + self.out(attended.transpose(1, 2).flatten(2))
        return result

    def _split(self, x: Tensor) -> Tensor:
        """Split (batch, n, width) into heads: (batch, heads, n, width / heads)."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)


def _norm(width: int) -> LayerNorm:
    """A norm without scale and offset: the linear maps that follow it have their own."""
    return LayerNorm(width, elementwise_affine=False)


def _is_traced() -> bool:
    """Whether shapes must not depend on values: under vmap."""
    return torch._C._are_functorch_transforms_active()
