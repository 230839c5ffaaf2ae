"""Episodes from tables with different numbers of features, standardised by their support sets."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import SPLITS, TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.pool import episode_masks
from metaloop.data.tables.table_reading import Table, read_table
from metaloop.data.user.own_tables import read_own_table
from metaloop.data.user.own_tasks import Columns, OwnRows, OwnTasks, Scale
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest

_FARTHEST = 10.0  # standard deviations: a column that hardly varies in the support may be far off in a query


class Tabular(OwnTasks):
    """Each episode is of one table: in classification of some of its classes, in regression of some of its rows.

    Splits are by table. A table that several splits name is shared out: each gets as many consecutive rows of every class.

    Args:
        problem: with classes, or with values.
        tables: of each split, the names of its tables; see :mod:`metaloop.data.tables.table_reading`.
        data_dir: the folder with the archive of the UCI tables.
        missing: share of the values, in [0, 1), that are hidden at random, in an episode of its own each time.
    """

    def __init__(self, problem: Problem, tables: Mapping[str, Sequence[str]], data_dir: str, missing: float = 0.0) -> None:
        if set(tables) != set(SPLITS) or not all(tables.values()):
            raise UserError(f"dataset.tables={dict(tables)}: at least one table for each of {', '.join(SPLITS)}")
        if not 0 <= missing < 1:
            raise UserError(f"dataset.missing={missing}: a share of at least 0 and below 1")
        self.problem = problem
        self.tables = {split: tuple(names) for split, names in tables.items()}
        self.data_dir = data_dir
        self.missing = missing
        self._splits: dict[str, TabularTasks] = {}

    def split(self, name: str) -> "TabularTasks":
        """See :meth:`Dataset.split`; all tables are read when the first split is asked for, since the widest sets the width."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        if not self._splits:
            read = {each: self._read(each) for each in dict.fromkeys(chain.from_iterable(self.tables.values()))}
            width = max(table.x.shape[1] for table in read.values())
            self._splits = {split: self._tasks(split, read, width) for split in SPLITS}
        return self._splits[name]

    def read_own(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> OwnRows:
        """See :meth:`metaloop.data.user.own_tasks.OwnTasks.read_own`."""
        return read_own_table(path, columns, input_shape[-1], labelled=labelled)

    def own_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, Scale | None]:
        """See :meth:`metaloop.data.user.own_tasks.OwnTasks.own_inputs`: in the support set's standard deviations."""
        assert isinstance(support, Tensor)
        assert isinstance(query, Tensor)
        y = support.new_zeros(support.shape[:2]) if targets is None else targets
        rows = torch.cat([y[..., None], support], -1)
        asked = torch.cat([query.new_zeros(*query.shape[:2], 1), query], -1)
        (_, own), (_, x) = _standardised(rows, asked, mask)
        _, mean, unit, _ = _units(rows, mask)
        scale = None if targets is None else Scale(mean[0, 0, 0].item(), unit[0, 0, 0].item())
        return _inputs(own), _inputs(x), scale

    def _read(self, name: str) -> Table:
        table = read_table(name, self.data_dir)
        if (table.classes is None) is self.problem.has_classes:
            holds = "values" if table.classes is None else "classes"
            raise UserError(f"dataset.tables: the targets of {name} are {holds}, no {self.problem.name} (dataset.problem)")
        return table

    def _tasks(self, split: str, read: Mapping[str, Table], width: int) -> "TabularTasks":
        groups, tables = [], []
        for name in self.tables[split]:
            shared = [each for each in SPLITS if name in self.tables[each]]
            parts = [_share(group, shared.index(split), len(shared)) for group in _groups(read[name])]
            groups += [np.pad(part, ((0, 0), (0, width + 1 - part.shape[1])), constant_values=np.nan) for part in parts]
            tables.append(len(parts))
        sizes = [len(group) for group in groups]
        rows = torch.from_numpy(np.concatenate(groups))
        return TabularTasks(rows, sizes, tables, self.tables[split], self.problem, split, self.missing)


def _groups(table: Table) -> list[np.ndarray]:
    """Of every class, or of the whole table, (rows, 1 + features): the target and the features."""
    rows = np.column_stack([table.y, table.x])
    return [rows] if table.classes is None else [rows[table.y == label] for label in range(table.classes)]


def _share(rows: np.ndarray, part: int, parts: int) -> np.ndarray:
    return rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]


class TabularTasks(TaskDistribution):
    """Episodes of the tables of one split.

    Inputs are (2, features): standardised values, zero where there is none, and ones where there is one. Mean and standard
    deviation of every column, and in regression of the target, are those of the episode's support set; so mean squared errors
    are in the support targets' variance. Values are cut at ten standard deviations.

    Args:
        rows: (rows, 1 + features) float64, target first, nan where there is no value; the rows of a group are neighbours.
        sizes: rows of each group, a class of a table or a whole table.
        tables: how many groups each table has.
        names: of the tables.
        problem: see :class:`Tabular`.
        split: its name, for messages.
        missing: see :class:`Tabular`.
    """

    def __init__(
        self,
        rows: Tensor,
        sizes: Sequence[int],
        tables: Sequence[int],
        names: Sequence[str],
        problem: Problem,
        split: str,
        missing: float,
    ) -> None:
        self.problem = problem
        self.input_shape = (2, rows.shape[1] - 1)
        self.num_classes = len(sizes) if problem.has_classes else None
        self._arguments = (tuple(sizes), tuple(tables), tuple(names), problem, split, missing)
        self.rows = rows
        self._sizes, self._tables = (torch.tensor(list(each), device=rows.device) for each in (sizes, tables))
        self._starts, self._firsts = (each.cumsum(0) - each for each in (self._sizes, self._tables))

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError where an episode asks for more classes or rows than a table has."""
        sizes, tables, names, _, split, _ = self._arguments
        if not self.problem.has_classes and spec.ways != 1:
            raise UserError(f"episode.ways={spec.ways}: regression tasks have no classes; take episode=regression, or ways=1")
        need, first = highest(spec.shots) + spec.queries, 0
        for name, count in zip(names, tables, strict=True):
            if highest(spec.ways) > count:
                raise UserError(f"episode.ways={highest(spec.ways)}: table {name} of the {split} split has {count} classes")
            if need > (least := min(sizes[first : first + count])):
                raise UserError(
                    f"episode.shots + episode.queries = {highest(spec.shots)} + {spec.queries} = {need}: table {name} of the "
                    f"{split} split has only {least} rows" + (" of some class" if count > 1 else "")
                )
            first += count

    def outputs(self, spec: EpisodeSpec) -> int:
        """The highest ways; one number in regression."""
        return highest(spec.ways)

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        ways, shots = highest(spec.ways), highest(spec.shots)
        table = stream.integers(numbers, 1, "table", len(self._tables))[:, 0]
        within = stream.without_replacement(numbers, self._tables[table][:, None], ways, "classes")[:, 0]
        groups = self._firsts[table][:, None] + within  # (tasks, ways)
        chosen = stream.without_replacement(numbers, self._sizes[groups], shots + spec.queries, "rows")
        rows = self.rows[self._starts[groups][..., None] + chosen]  # (tasks, ways, shots + queries, 1 + features)
        rows = self._hidden(stream, numbers, rows)
        masks = episode_masks(stream, numbers, spec)
        support, query = (part.flatten(1, 2) for part in (rows[:, :, :shots], rows[:, :, shots:]))
        labels = torch.arange(ways, device=numbers.device).expand(len(numbers), ways)
        own, asked = (
            Examples(_inputs(x), self._targets(y, labels, x.shape[1] // ways), mask, ways if self.num_classes else 0)
            for (y, x), mask in zip(_standardised(support, query, masks[0]), masks, strict=True)
        )
        return Tasks(own, asked, numbers, self._classes(groups, masks[0]))

    def _hidden(self, stream: Stream, numbers: Tensor, rows: Tensor) -> Tensor:
        """Without the share of the features that is to miss; targets stay."""
        missing = self._arguments[-1]
        if not missing:
            return rows
        features = rows[..., 1:]
        hide = stream.uniform(numbers, features[0].numel(), "missing").view(features.shape) < missing
        return torch.cat([rows[..., :1], features.masked_fill(hide, torch.nan)], -1)

    def _targets(self, y: Tensor, labels: Tensor, each: int) -> Tensor:
        return labels.repeat_interleave(each, 1) if self.num_classes else y.float()

    def _classes(self, groups: Tensor, mask: Tensor | None) -> Tensor | None:
        if not self.num_classes:
            return None
        return groups if mask is None else groups.masked_fill(~mask.view(*groups.shape, -1).any(-1), -1)

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        return type(self)(self.rows.to(device), *self._arguments)


def _standardised(support: Tensor, query: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Support and query as targets (tasks, n, 1) and features (tasks, n, features) in the support's standard deviations.

    Args:
        support: (tasks, n, 1 + features), nan where there is no value.
        query: the same.
        mask: (tasks, n) which support rows are real.
    """
    count, mean, unit, tells = _units(support, mask)
    parts = []
    for rows in (support, query):
        scaled = (rows - mean) / unit
        features = scaled[..., 1:].clamp(-_FARTHEST, _FARTHEST).masked_fill(~tells[..., 1:] & ~rows[..., 1:].isnan(), 0.0)
        # Without a value in the support nothing is known of a column's unit, so a query's value says nothing either.
        parts.append((scaled[..., :1], features.masked_fill(count[..., 1:] == 0, torch.nan)))
    return parts


def _units(support: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of every column (tasks, 1, columns): values, their mean and standard deviation, and whether they differ."""
    known = ~support.isnan() if mask is None else ~support.isnan() & mask[..., None]
    count = known.sum(1, keepdim=True)
    mean = support.masked_fill(~known, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    variance = (support - mean).square().masked_fill(~known, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    tells = variance > 1e-12 * mean.square().clamp(min=1e-12)  # a column that is constant in the support has no unit
    return count, mean, torch.where(tells, variance.sqrt(), 1.0), tells


def _inputs(x: Tensor) -> Tensor:
    """(tasks, n, 2, features) float32: values, zero where there is none, and whether there is one."""
    return torch.stack([x.nan_to_num(nan=0.0), (~x.isnan()).to(x.dtype)], -2).float()
