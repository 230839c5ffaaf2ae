"""Real tables of inliers and anomalies as tasks: an episode is a random part of one table."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.split_contents import split_contents
from metaloop.data.tables.anomalies.layout import Supervision, check_size, detection_tasks, placed, shots
from metaloop.data.tables.table_reading import DataTable
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Tasks, highest

_MOST = 10_000  # inliers of a table that are used, evenly spaced; and anomalies
LEAST = 20  # inliers of a table


class DetectionTables(TaskDistribution):
    """Episodes of tables of inliers and anomalies. Episode ``i`` is of table ``i % tables``, so all tables come equally often.

    The support set has ``shots`` rows that are taken for inliers and the labelled anomalies; queries are other rows, with
    anomalies in the table's proportion. A table gives at most half of its inliers to the support set, and as many queries as it
    has rows left. Of more than 10,000 inliers or anomalies, evenly spaced ones are used. A table with more columns than
    ``columns`` shows random ones in each episode.

    Inputs are (2, columns): values in standard deviations of the support rows that are taken for inliers, and ones where they
    are known.

    Args:
        tables: the tables, with class 1 for anomalies.
        problem: anomaly scoring.
        columns: number of columns of an input.
        supervision: labelled and unlabelled anomalies of the support sets.
        split: name of the split, for messages.

    Raises:
        UserError: a table has no inliers, no anomalies, or values that are infinite.
    """

    def __init__(
        self, tables: Sequence[DataTable], problem: Problem, columns: int, supervision: Supervision, split: str
    ) -> None:
        for table in tables:
            _check_table(table)
        self.problem = problem
        self.input_shape = (2, columns)
        self.supervision = supervision
        self.split = split
        self.names = tuple(table.name for table in tables)
        self.shares = tuple(float(table.y.mean()) for table in tables)
        self._rows = [(_evenly(table.x[table.y == 0]), _evenly(table.x[table.y == 1])) for table in tables]

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if a table has too few anomalies for the support set and a query."""
        check_size(spec)
        for name, share, (inliers, anomalies) in zip(self.names, self.shares, self._rows, strict=True):
            hidden = self.supervision.contaminating(min(highest(spec.shots), len(inliers) // 2), share)
            need = self.supervision.labelled[1] + hidden + 1
            if len(anomalies) < need:
                raise UserError(
                    f"dataset.labelled.{self.split}={self.supervision.labelled[1]}: table {name} has {len(anomalies)} "
                    f"anomalies, and {need} are needed ({hidden} for dataset.contamination.{self.split}, one to ask); lower "
                    f"these, or leave the table out of dataset.tables.{self.split}"
                )

    def outputs(self, spec: EpisodeSpec) -> int:
        """One score."""
        return 1

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`; random numbers order all rows of a table."""
        return super().elements(spec) + max(sum(map(len, parts)) for parts in self._rows)

    def class_name(self, number: int) -> str:
        """Name of a table, which stands in the place of a class."""
        return self.names[number]

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; a table counts as a class, with its rows."""
        rows = {name: sum(map(len, parts)) for name, parts in zip(self.names, self._rows, strict=True)}
        return split_contents(rows, torch.cat([part.flatten() for parts in self._rows for part in parts])[:, None])

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        count, labels = shots(stream, numbers, spec)[:, 0].tolist(), self.supervision.labels(stream, numbers)[:, 0].tolist()
        episodes = [self._episode(stream, numbers[i : i + 1], spec, count[i], labels[i]) for i in range(len(numbers))]
        support, shown, query, asked = (torch.stack(part) for part in zip(*episodes, strict=True))
        return detection_tasks(support, shown, query, asked, numbers)

    def _episode(
        self, stream: Stream, number: Tensor, spec: EpisodeSpec, count: int, labels: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Arguments of :func:`detection_tasks` for an episode of ``count`` support rows and ``labels`` labelled anomalies."""
        place = int(number) % len(self._rows)
        normal, odd = (self._shuffled(stream, number, part, kind) for part, kind in zip(self._rows[place], (0, 1), strict=True))
        count = min(count, len(normal) // 2)
        hidden = self.supervision.contaminating(count, self.shares[place])
        asked = min(_inliers(spec.queries, self.supervision, self.shares[place]), len(normal) - count + hidden)
        wrong = min(self.supervision.anomalous(asked, self.shares[place]), len(odd) - labels - hidden, spec.queries - 1)
        pool = torch.cat([odd[:hidden], normal[: count - hidden]])
        pool[:, 0] = 0.0  # without a label a row counts as an inlier
        known = odd[hidden : hidden + labels]
        support, shown = placed([pool, known], [highest(spec.shots), self.supervision.labelled[1]])
        queries = [normal[count - hidden :][:asked], odd[hidden + labels :][:wrong]]
        query, real = placed([torch.cat(queries)], [spec.queries])
        return support, shown, query, real

    def _shuffled(self, stream: Stream, number: Tensor, rows: Tensor, kind: int) -> Tensor:
        """Rows (rows, 1 + columns) in random order, with ``kind`` as the target in front and the episode's columns."""
        rows = rows.to(number.device)
        order = stream.uniform(number, len(rows), f"order of kind {kind}")[0].argsort()
        width, most = rows.shape[1], self.input_shape[1]
        if width > most:
            sizes = torch.tensor([[width]], device=number.device)
            rows = rows[:, stream.without_replacement(number, sizes, most, "columns")[0, 0].sort().values]
        padded = torch.nn.functional.pad(rows[order], (0, max(0, most - width)), value=torch.nan)
        return torch.nn.functional.pad(padded, (1, 0), value=float(kind))

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution; rows move to the device of the episode numbers when they are drawn."""
        return self


def _inliers(queries: int, supervision: Supervision, own: float) -> int:
    """How many of so many queries are inliers."""
    share = own if supervision.share is None else supervision.share
    return queries - min(max(1, round(queries * share)), queries - 1)


def _evenly(rows: np.ndarray) -> Tensor:
    """At most 10,000 evenly spaced rows, float64."""
    step = max(1.0, len(rows) / _MOST)
    return torch.from_numpy(rows[np.arange(0, len(rows), step).astype(np.int64)])


def _check_table(table: DataTable) -> None:
    """Raise a UserError unless a table can be used."""
    normal, odd = int((table.y == 0).sum()), int((table.y == 1).sum())
    if normal < LEAST or not odd:
        raise UserError(
            f"dataset.tables: {table.name} has {normal} inliers (y = 0) and {odd} anomalies (y = 1); at least {LEAST} and 1 "
            f"are needed; leave it out, or check its y"
        )
    if np.isinf(table.x).any():
        row = int(np.isinf(table.x).any(1).argmax())
        raise UserError(f"dataset.tables: {table.name}, row {row + 1} of X is infinite; write nan for a missing value")
