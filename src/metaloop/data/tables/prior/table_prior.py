"""Tasks that are whole synthetic tables, drawn from random causal models and addressed by number."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution, check_split
from metaloop.data.philox import Stream
from metaloop.data.tables.own_tables import own_inputs
from metaloop.data.tables.prior.causal_model import LAYERS, causal_nodes
from metaloop.data.tables.prior.columns import categorical, fewer, incomplete, irrelevant, warped
from metaloop.data.tables.prior.targets import classes
from metaloop.data.tables.standardization import inputs, standardized
from metaloop.data.tables.table_reading import read_table
from metaloop.data.tables.whole_tables import WholeTables, known_classes, table_sizes
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import Columns, TargetScale, UserFileDataset, UserRows
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest, lowest

log = logging.getLogger(__name__)

_WIDEST = 100  # features of a user's table


class TablePrior(UserFileDataset):
    """Meta-training and meta-validation on synthetic tables, meta-test on real ones, predictions for a user's own.

    An episode is a whole table: its rows are the support set and the queries, in random order and with classes in their own
    proportions. It has ``ways * shots`` support rows and ``ways * queries`` queries, where ``ways`` is the highest number of
    classes (1 in regression).

    Args:
        problem: a classification, or a regression.
        columns: highest number of features of a synthetic table.
        nodes: nodes of one layer of the causal models.
        missing: share of the synthetic tables in which values are missing, in [0, 1].
        tables: names of the real tables (see :mod:`metaloop.data.tables.table_reading`).
        data_dir: folder of the real tables.
    """

    def __init__(
        self, problem: Problem, columns: int, nodes: int, missing: float, tables: Sequence[str], data_dir: str
    ) -> None:
        self.synthetic: TaskDistribution = self.make_synthetic(problem, columns, nodes, missing)
        self.problem = problem
        self.tables = tuple(tables)
        self.data_dir = data_dir
        self._real: WholeTables | None = None

    def make_synthetic(self, problem: Problem, columns: int, nodes: int, missing: float) -> TaskDistribution:
        """The distribution of synthetic tables; arguments as for the class."""
        return SyntheticTables(problem, columns, nodes, missing)

    def split(self, name: str) -> TaskDistribution:
        """See :meth:`Dataset.split`; the real tables are read when the test split is first asked for."""
        check_split(name)
        if name != "test":
            return self.synthetic
        if self._real is None:
            real = [read_table(each, self.data_dir) for each in self.tables]
            self._real = WholeTables(real, self.problem, self.synthetic.input_shape[1])
        return self._real

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """See :meth:`UserFileDataset.read_user_file`. A category is one number, its place in alphabetical order.

        A table may have more features than the synthetic ones; a warning says so.
        """
        rows = read_user_table(path, columns, _WIDEST, labelled=labelled, one_hot=False)
        if labelled and len(rows.features) > input_shape[-1]:
            log.warning(
                "%s has %s features, and the model was meta-trained on tables of up to %s; it reads them all, but expect less, "
                "or leave some out with ignore=", path, len(rows.features), input_shape[-1],
            )  # fmt: skip
        return rows

    def user_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, TargetScale | None]:
        """See :meth:`UserFileDataset.user_inputs`. The scale is the support set's."""
        return own_inputs(support, targets, mask, query)


class SyntheticTables(TaskDistribution):
    """The distribution of synthetic tables; arguments as for :class:`TablePrior`.

    Inputs are (2, columns): values in standard deviations of the support set, and ones where they are known.
    Queries whose class is not in the support set are masked, since nothing in the task could tell it.
    """

    def __init__(self, problem: Problem, columns: int, nodes: int, missing: float) -> None:
        if not 2 <= columns <= nodes * (LAYERS + 1) - 1:
            raise UserError(f"dataset.columns={columns}: from 2 to {nodes * (LAYERS + 1) - 1}, one less than there are nodes")
        if not 0 <= missing <= 1:
            raise UserError(f"dataset.missing={missing} must be a share in [0, 1]")
        self.problem = problem
        self.input_shape = (2, columns)
        self.nodes = nodes
        self.missing = missing

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError unless ways is one number that suits the problem."""
        if not isinstance(spec.ways, int) or (spec.ways < 2) is self.problem.has_classes:
            need = "one number of at least 2, the most classes of a table" if self.problem.has_classes else "1 in regression"
            raise UserError(f"{spec.said('ways')}: {need}")

    def outputs(self, spec: EpisodeSpec) -> int:
        """The highest number of classes, which is 1 in regression."""
        return highest(spec.ways)

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`; every row has all nodes of its causal model."""
        support, queries = table_sizes(spec)
        return (support + queries) * self.nodes * (LAYERS + 1) * 8

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        most, (rows, queries) = highest(spec.ways), table_sizes(spec)
        features, y = self.tables(stream, numbers, rows + queries, most)
        mask = self._support_mask(stream, numbers, spec)
        table = torch.cat([y[..., None].to(features.dtype), features], -1).double()
        (support_y, support_x), (query_y, query_x) = standardized(table[:, :rows], table[:, rows:], mask)
        if not self.problem.has_classes:
            support = Examples(inputs(support_x), support_y.float(), mask)
            return Tasks(support, Examples(inputs(query_x), query_y.float()), numbers)
        support = Examples(inputs(support_x), y[:, :rows], mask, most)
        real = known_classes(y[:, :rows], mask, y[:, rows:], most)
        return Tasks(support, Examples(inputs(query_x), y[:, rows:], real, most), numbers)

    def tables(self, stream: Stream, numbers: Tensor, rows: int, most: int) -> tuple[Tensor, Tensor]:
        """Draw tables.

        Args:
            stream: random numbers of the split.
            numbers: (tasks,) numbers of the episodes.
            rows: number of rows of each table.
            most: highest number of classes.

        Returns:
            Features (tasks, rows, columns), nan where a value is missing or a table has no such column, and classes or targets
            (tasks, rows).
        """
        features, nodes, target, cluster = self._nodes(stream, numbers, rows)
        if self.problem.has_classes:
            return features, classes(stream, numbers, nodes, target, cluster, most)
        return features, warped(stream, numbers, target[..., None])[..., 0]

    def _nodes(self, stream: Stream, numbers: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features (tasks, rows, columns), the last layer's nodes, the target node and the rows' clusters."""
        width = self.input_shape[1]
        nodes, last, cluster = causal_nodes(stream, numbers, rows, self.nodes, many=True)
        # The target is a computed node, never a root cause, and no feature.
        target = self.nodes + stream.integers(numbers, 1, "target node", nodes.shape[2] - self.nodes)
        sizes = torch.full((len(numbers), 1), nodes.shape[2] - 1, device=numbers.device)
        chosen = stream.without_replacement(numbers, sizes, width, "feature nodes")[:, 0]
        chosen = chosen + (chosen >= target)
        features = nodes.gather(2, chosen[:, None].expand(-1, rows, -1))
        features = irrelevant(stream, numbers, categorical(stream, numbers, warped(stream, numbers, features)))
        features = fewer(stream, numbers, incomplete(stream, numbers, features, self.missing), least=2)
        return features, last, nodes.gather(2, target[:, None].expand(-1, rows, 1))[..., 0], cluster

    def _support_mask(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tensor | None:
        """Which support rows are real (tasks, rows): a number of rows uniform over the range of shots; None for one number."""
        if not spec.variable:
            return None
        rows, least = table_sizes(spec)[0], highest(spec.ways) * lowest(spec.shots)
        count = least + stream.integers(numbers, 1, "rows", rows - least + 1)
        return torch.arange(rows, device=numbers.device) < count

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution: tables are created on the device of the episode numbers."""
        return self
