"""Episodes from tables with different numbers of features, standardised by the support set."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.copies import Copies, check_repeats, count_repeats, tell_repeats
from metaloop.data.distribution import SPLITS, TaskDistribution, check_split
from metaloop.data.philox import Stream
from metaloop.data.pool import episode_masks
from metaloop.data.split_contents import split_contents
from metaloop.data.tables.own_tables import is_own, own_inputs, read_own_table
from metaloop.data.tables.standardization import inputs, standardized
from metaloop.data.tables.table_reading import DataTable, read_table
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import Columns, TargetScale, UserFileDataset, UserRows
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.records.contents import SplitContents
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec, Examples, Inputs, Tasks, highest


class Tabular(UserFileDataset):
    """Tables as tasks: an episode has some classes of one table (classification), or some of its rows (regression).

    Splits are by table. If several splits name a table, each gets an equal number of consecutive rows of every class.

    Args:
        problem: a classification, or a regression.
        tables: names of the tables of each split (see :mod:`metaloop.data.tables.table_reading`), or paths of your own files.
        data_dir: folder with the archive of the UCI tables.
        missing: share of the feature values that are hidden, in [0, 1), drawn for each episode.
        label: column of the class or target in your own files.
        ignore: columns of your own files that are no features.
        categories: columns of your own files whose values are categories, whatever they look like.
        repeats: "apart" if no episode may have equal rows of your own files in both support and query; "anywhere" if it may.
    """

    def __init__(
        self,
        problem: Problem,
        tables: Mapping[str, Sequence[str]],
        data_dir: str,
        missing: float = 0.0,
        label: str = "label",
        ignore: Sequence[str] = (),
        categories: Sequence[str] = (),
        repeats: str = "apart",
    ) -> None:
        if set(tables) != set(SPLITS) or not all(tables.values()):
            raise UserError(f"dataset.tables={dict(tables)} must have at least one table for each of {', '.join(SPLITS)}")
        if not 0 <= missing < 1:
            raise UserError(f"dataset.missing={missing} must be a share in [0, 1)")
        self.problem = problem
        self.tables = {split: tuple(names) for split, names in tables.items()}
        self.data_dir = data_dir
        self.missing = missing
        check_repeats(repeats)
        self._columns = Columns(label=label, ignore=tuple(ignore), categories=tuple(categories), prefix="dataset.")
        self._apart = repeats == "apart"
        self._splits: dict[str, TabularTasks] = {}
        self._counts: dict[str, ExampleCounts] = {}

    def split(self, name: str) -> "TabularTasks":
        """See :meth:`Dataset.split`. The first call reads all tables, since the widest sets the number of features."""
        check_split(name)
        if not self._splits:
            tables = {each: self._read(each) for each in dict.fromkeys(chain.from_iterable(self.tables.values()))}
            width = max(table.x.shape[1] for table in tables.values())
            self._splits = {split: self._tasks(split, tables, width) for split in SPLITS}
            if any(map(is_own, tables)):
                tell_repeats(self._counts, "rows", apart=self._apart)
        return self._splits[name]

    def counts(self) -> Mapping[str, ExampleCounts]:
        """See :meth:`Dataset.counts`; rows of several tables are not compared."""
        return self._counts

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """See :meth:`metaloop.data.user.tasks.UserFileDataset.read_user_file`."""
        return read_user_table(path, columns, input_shape[-1], labelled=labelled)

    def user_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, TargetScale | None]:
        """See :meth:`metaloop.data.user.tasks.UserFileDataset.user_inputs`. The scale is the support set's."""
        return own_inputs(support, targets, mask, query)

    def _read(self, name: str) -> DataTable:
        if is_own(name):
            return read_own_table(name, self._columns, has_classes=self.problem.has_classes)
        table = read_table(name, self.data_dir)
        if (table.classes is None) is self.problem.has_classes:
            holds = "values" if table.classes is None else "classes"
            raise UserError(
                f"dataset.tables: the targets of {name} are {holds}, so dataset.problem cannot be {self.problem.name}"
            )
        return table

    def _tasks(self, split: str, tables: Mapping[str, DataTable], width: int) -> "TabularTasks":
        groups: list[np.ndarray] = []
        groups_of_table: list[int] = []
        own: list[bool] = []  # whether a group's table is the user's
        for name in self.tables[split]:
            users = [each for each in SPLITS if name in self.tables[each]]
            parts = [_share(group, users.index(split), len(users)) for group in _groups(tables[name])]
            groups += [np.pad(part, ((0, 0), (0, width + 1 - part.shape[1])), constant_values=np.nan) for part in parts]
            groups_of_table.append(len(parts))
            own += [is_own(name)] * len(parts)
        sizes = [len(group) for group in groups]
        targets = 0 if self.problem.has_classes else 1  # number of targets that are part of what is compared
        shown = [[row[1 - targets :].tobytes() for row in group] for group in groups]
        self._counts[split] = ExampleCounts(sum(sizes), *count_repeats({split: shown})[split])
        rows = torch.from_numpy(np.concatenate(groups))
        copies = Copies.of(_compared(groups, own)) if self._apart and any(own) else None
        names = [Path(name).name for name in self.tables[split]]
        return TabularTasks(rows, sizes, groups_of_table, names, self.problem, split, self.missing, copies)


def _groups(table: DataTable) -> list[np.ndarray]:
    """The rows (rows, 1 + features) of every class, or of the whole table in regression, with the target first."""
    rows = np.column_stack([table.y, table.x])
    return [rows] if table.classes is None else [rows[table.y == label] for label in range(table.classes)]


def _compared(groups: Sequence[np.ndarray], own: Sequence[bool]) -> list[list[Hashable]]:
    """Keys of the rows of each group: features and target of the user's; rows of published tables are never copies."""
    return [
        [row.tobytes() if users else (number, place) for place, row in enumerate(group)]
        for number, (group, users) in enumerate(zip(groups, own, strict=True))
    ]


def _share(rows: np.ndarray, part: int, parts: int) -> np.ndarray:
    return rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]


class TabularTasks(TaskDistribution):
    """Episodes of the tables of one split.

    Inputs are (2, features): the standardised values (zero for a missing one), and a mask with ones for known values. Mean and
    standard deviation of every column are those of the episode's support set, and so are those of the target in regression. So
    mean squared errors are in units of the variance of the support targets. Values are clipped at ten standard deviations.

    Args:
        rows: (rows, 1 + features) float64, target first, with nan for missing values and the rows of a group together.
        sizes: number of rows of each group. A group is a class of a table, or a whole table in regression.
        tables: number of groups of each table.
        names: names of the tables.
        problem: see :class:`Tabular`.
        split: name of the split, for messages.
        missing: see :class:`Tabular`.
        copies: which rows are equal, if no episode may have equal ones in support and query; None if it may.
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
        copies: Copies | None = None,
    ) -> None:
        self.problem = problem
        self.input_shape = (2, rows.shape[1] - 1)
        self.num_classes = len(sizes) if problem.has_classes else None
        self._arguments = (tuple(sizes), tuple(tables), tuple(names), problem, split, missing)
        self.rows, self.copies = rows, copies
        self._sizes, self._tables = (torch.tensor(list(each), device=rows.device) for each in (sizes, tables))
        self._starts, self._firsts = (each.cumsum(0) - each for each in (self._sizes, self._tables))

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if an episode needs more classes or rows than a table has."""
        sizes, tables, names, _, split, _ = self._arguments
        if not self.problem.has_classes and spec.ways != 1:
            raise UserError(f"{spec.said('ways')}: a regression task has no classes; use episode=regression or ways=1")
        need, first = highest(spec.shots) + spec.queries, 0
        for name, count in zip(names, tables, strict=True):
            if highest(spec.ways) > count:
                raise UserError(f"{spec.said('ways')}: table {name} of the {split} split has {count} classes")
            if need > (least := min(sizes[first : first + count])):
                raise UserError(
                    f"{spec.said('shots', 'queries')}, {need} examples: table {name} of the "
                    f"{split} split has only {least} rows" + (" of some class" if count > 1 else "")
                )
            first += count
        if self.copies is not None:
            self.copies.check(spec, [self.class_name(group) for group in range(len(sizes))], split)

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; a table counts as a class, with its rows."""
        sizes, tables, names, *_ = self._arguments
        ends = np.cumsum(tables)
        rows = {name: sum(sizes[end - count : end]) for name, count, end in zip(names, tables, ends.tolist(), strict=True)}
        return split_contents(rows, self.rows)

    def outputs(self, spec: EpisodeSpec) -> int:
        """The highest number of ways, which is 1 in regression."""
        return highest(spec.ways)

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`."""
        return super().elements(spec) + (0 if self.copies is None else self.copies.elements(spec))

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        ways, shots = highest(spec.ways), highest(spec.shots)
        table = stream.integers(numbers, 1, "table", len(self._tables))[:, 0]
        within = stream.without_replacement(numbers, self._tables[table][:, None], ways, "classes")[:, 0]
        groups = self._firsts[table][:, None] + within  # (tasks, ways)
        sizes = self._sizes[groups]
        if self.copies is None:
            chosen = stream.without_replacement(numbers, sizes, shots + spec.queries, "rows")
        else:
            chosen = self.copies.draw(stream, numbers, groups, sizes, shots, spec.queries)
        rows = self.rows[self._starts[groups][..., None] + chosen]  # (tasks, ways, shots + queries, 1 + features)
        rows = self._hide(stream, numbers, rows)
        masks = episode_masks(stream, numbers, spec)
        support, query = (part.flatten(1, 2) for part in (rows[:, :, :shots], rows[:, :, shots:]))
        labels = torch.arange(ways, device=numbers.device).expand(len(numbers), ways)
        examples = [
            Examples(inputs(x), self._targets(y, labels, x.shape[1] // ways), mask, ways if self.num_classes else 0)
            for (y, x), mask in zip(standardized(support, query, masks[0]), masks, strict=True)
        ]
        return Tasks(examples[0], examples[1], numbers, self._classes(groups, masks[0]))

    def _hide(self, stream: Stream, numbers: Tensor, rows: Tensor) -> Tensor:
        """Replace the share ``missing`` of the feature values by nan; targets are kept."""
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
        return type(self)(self.rows.to(device), *self._arguments, None if self.copies is None else self.copies.to(device))
