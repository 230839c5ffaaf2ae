"""Real tables as tasks: an episode is one table, split at random into support and queries."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.split_contents import split_contents
from metaloop.data.tables.standardization import inputs, standardized
from metaloop.data.tables.table_reading import DataTable
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Examples, Tasks, highest

_MOST_ROWS = 10_000


def table_sizes(spec: EpisodeSpec) -> tuple[int, int]:
    """Return the highest numbers of support rows and of queries of a whole table, ``ways`` times shots and queries."""
    return highest(spec.ways) * highest(spec.shots), highest(spec.ways) * spec.queries


def known_classes(support: Tensor, mask: Tensor | None, query: Tensor, ways: int) -> Tensor:
    """Which queries (tasks, queries) have a class that the support set has, too.

    Args:
        support: (tasks, rows) classes.
        mask: (tasks, rows) bool, True for real support rows; None if all are real.
        query: (tasks, queries) classes.
        ways: highest number of classes.
    """
    shown = torch.nn.functional.one_hot(support, ways)
    if mask is not None:
        shown = shown * mask[..., None]
    return shown.any(1).gather(1, query)


class WholeTables(TaskDistribution):
    """Episodes of whole tables. Episode ``i`` is a split of table ``i % tables``, so all tables come equally often.

    Rows are split at random with classes in their proportions (stratified). Of a table of more than 10,000 rows, evenly spaced
    rows of each class are used. A table with fewer rows than an episode has keeps
    the episode's proportion of support rows to queries. Inputs are as in :class:`metaloop.data.tables.tabular.TabularTasks`.

    Args:
        tables: the tables, each with at most ``columns`` features.
        problem: a classification, or a regression.
        columns: number of features of an input; narrower tables get unknown columns.

    Raises:
        UserError: a table has too many features, or targets of the other kind.
    """

    def __init__(self, tables: Sequence[DataTable], problem: Problem, columns: int) -> None:
        for table in tables:
            if table.x.shape[1] > columns:
                raise UserError(f"dataset.columns={columns}: table {table.name} has {table.x.shape[1]} features")
            if (table.classes is None) is problem.has_classes:
                holds = "values" if table.classes is None else "classes"
                raise UserError(f"dataset.tables: the targets of {table.name} are {holds}, so problem={problem.name} cannot be")
        self.problem = problem
        self.input_shape = (2, columns)
        self.tables = tuple(tables)
        self._rows = [_padded(_thinned(table), columns) for table in tables]

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if a table has more classes than ``spec.ways``, or too few rows to split."""
        for table in self.tables:
            if (table.classes or 1) > highest(spec.ways):
                raise UserError(f"{spec.said('ways')}: table {table.name} has {table.classes} classes")
            if len(table.y) < 4:
                raise UserError(f"dataset.tables: {table.name} has {len(table.y)} rows; at least 4 are needed")

    def outputs(self, spec: EpisodeSpec) -> int:
        """The highest number of classes, which is 1 in regression."""
        return highest(spec.ways)

    def class_name(self, number: int) -> str:
        """Name of a table, which stands in the place of a class."""
        return self.tables[number].name

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; a table counts as a class, with its rows."""
        rows = {table.name: len(table.y) for table in self.tables}
        return split_contents(rows, torch.cat(self._rows))

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        parts = [self._episode(stream, numbers[i : i + 1], spec) for i in range(len(numbers))]
        table, real = (torch.cat(each) for each in zip(*parts, strict=True))
        rows, ways = table_sizes(spec)[0], highest(spec.ways)
        mask = real[:, :rows]
        (support_y, support_x), (query_y, query_x) = standardized(table[:, :rows], table[:, rows:], mask)
        if not self.problem.has_classes:
            support = Examples(inputs(support_x), support_y.float(), mask)
            return Tasks(support, Examples(inputs(query_x), query_y.float(), real[:, rows:]), numbers)
        y = table[..., 0].nan_to_num(0.0).long()
        known = real[:, rows:] & known_classes(y[:, :rows], mask, y[:, rows:], ways)
        support = Examples(inputs(support_x), y[:, :rows], mask, ways)
        return Tasks(support, Examples(inputs(query_x), y[:, rows:], known, ways), numbers)

    def _episode(self, stream: Stream, number: Tensor, spec: EpisodeSpec) -> tuple[Tensor, Tensor]:
        """Rows (1, support + queries, 1 + columns) of one episode, target first, and which are real (1, support + queries)."""
        table = self._rows[int(number) % len(self._rows)].to(number.device)
        order = _stratified(table[:, 0], stream.uniform(number, len(table), "order of rows")[0], self.problem.has_classes)
        support, queries = table_sizes(spec)
        chosen = min(len(table), support + queries)
        shown = max(1, round(chosen * support / (support + queries)))
        parts = (table[order[:shown]], table[order[shown:chosen]])
        padded = [torch.nn.functional.pad(p, (0, 0, 0, n - len(p))) for p, n in zip(parts, (support, queries), strict=True)]
        real = [torch.arange(n, device=number.device) < len(p) for p, n in zip(parts, (support, queries), strict=True)]
        return torch.cat(padded)[None], torch.cat(real)[None]

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution; rows move to the device of the episode numbers when they are drawn."""
        return self


def _thinned(table: DataTable) -> DataTable:
    """A table of about ``_MOST_ROWS`` evenly spaced rows of each class; the same one if it has no more."""
    if len(table.y) <= _MOST_ROWS:
        return table
    step = len(table.y) / _MOST_ROWS
    groups = (
        [np.arange(len(table.y))] if table.classes is None else [np.flatnonzero(table.y == c) for c in range(table.classes)]
    )
    kept = np.concatenate([group[np.arange(0, len(group), step).astype(np.int64)] for group in groups])
    return replace(table, x=table.x[kept], y=table.y[kept])


def _padded(table: DataTable, columns: int) -> Tensor:
    """Rows (rows, 1 + columns) float64, target first, with nan in the columns that the table does not have."""
    x = np.pad(table.x, ((0, 0), (0, columns - table.x.shape[1])), constant_values=np.nan)
    return torch.from_numpy(np.column_stack([table.y, x]))


def _stratified(y: Tensor, u: Tensor, has_classes: bool) -> Tensor:
    """An order (rows,) of which every first part has the classes in nearly their proportions.

    Args:
        y: (rows,) targets.
        u: (rows,) uniform random numbers.
        has_classes: whether the targets are classes; else the order is merely random.
    """
    if not has_classes:
        return u.argsort()
    key = torch.empty_like(u)
    for label in torch.unique(y):
        members = (y == label).nonzero()[:, 0]
        rank = u[members].argsort().argsort()
        key[members] = (rank + u[members]) / len(members)
    return key.argsort()
