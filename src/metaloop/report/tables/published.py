"""Rows of published numbers: each with what was measured, from the records of one setting."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.published import FurtherRow, Paper
from metaloop.records.runs import Run
from metaloop.report.paper import PaperComparison, metric_of, published_metric
from metaloop.report.tables.rows import Row, group_rows


@dataclass(frozen=True)
class Experiment:
    """What the table says of an experiment before it is run.

    Attributes:
        name: name of the experiment.
        dataset: option of the group ``dataset``.
        paper: its paper block; None if no paper prints a number.
    """

    name: str
    dataset: str
    paper: Paper | None


@dataclass(frozen=True)
class PublishedRow:
    """A published number beside ours; or one of the two alone.

    Attributes:
        experiment: the experiment.
        key: name of a further row of the experiment's training; empty for the experiment's own.
        paper: paper block with the values of this row; None if no paper has numbers of the experiment.
        row: our runs; None if there are none yet.
        trained: runs that trained what ``row`` tests, if they are others.
    """

    experiment: Experiment
    key: str
    paper: Paper | None
    row: Row | None
    trained: Row | None = None

    @property
    def label(self) -> str:
        """Name of the experiment and of the row."""
        return self.experiment.name + (f" / {self.key}" if self.key else "")

    @property
    def metric(self) -> Metric | None:
        """Metric of the row's numbers; None if there is neither a number nor a record."""
        if self.row is not None:
            return published_metric(self.paper, self.row.first.test)
        return None if self.paper is None else metric_of(self.paper)

    @property
    def measured(self) -> tuple[float, float | None] | None:
        """Our mean over seeds and its half-width over episodes; None if it was not run.

        After fewer inner steps than the test took, the half-width is the mean of those of the seeds, since the episodes'
        scores are those after the last step. The seeds share their episodes, so that it is rather too wide.

        Raises:
            UserError: the adaptation curve does not reach the published step.
        """
        step = self.paper.step if self.paper else None
        if self.row is not None and self.metric != self.row.metric:
            return self._statistic(self.row)
        if self.row is None or step is None:
            return None if self.row is None else (self.row.interval.mean, self.row.interval.half_width)
        points = [point for run in self.row.runs for point in run.test.curve if point.step == step]
        if not points:
            steps = ", ".join(str(point.step) for point in self.row.first.test.curve)
            raise UserError(f"{self.label}: paper.step={step!r}, but the run's adaptation curve has the steps {steps}")
        half_widths = [point.half_width for point in points if point.half_width is not None]
        return fmean(point.mean for point in points), fmean(half_widths) if half_widths else None

    def _statistic(self, row: Row) -> tuple[float, float | None]:
        """A statistic beside the score, of which only the half-widths of single seeds are known."""
        assert self.metric is not None
        found = [run.test.others[self.metric.name] for run in row.runs]
        half_widths = [each.half_width for each in found if each.half_width is not None]
        return fmean(each.mean for each in found), fmean(half_widths) if half_widths else None

    @property
    def comparison(self) -> PaperComparison | None:
        """Comparison with the paper; None unless both numbers are there."""
        if self.paper is None or self.paper.published is None or self.row is None or self.measured is None:
            return None
        assert self.metric is not None
        return PaperComparison(self.paper, self.metric, self.measured[0])

    @property
    def overlaps(self) -> bool | None:
        """Whether the two intervals overlap; a number without an interval is a point. None unless both numbers are there."""
        comparison, measured = self.comparison, self.measured
        if comparison is None or measured is None:
            return None
        assert comparison.paper.published is not None
        theirs, ours = comparison.paper.published.half_width or 0.0, measured[1] or 0.0
        return abs(comparison.difference) <= theirs + ours + 1e-12

    @property
    def good(self) -> bool:
        """Whether the intervals overlap or ours is better."""
        comparison = self.comparison
        if comparison is None:
            return False
        return bool(self.overlaps) or comparison.metric.better(comparison.measured, comparison.published)


def published_rows(experiments: Sequence[Experiment], runs: Mapping[str, Iterable[Run]]) -> list[PublishedRow]:
    """All rows, in the order of the experiments.

    Args:
        experiments: the experiments.
        runs: finished runs and later evaluations by name of the experiment.
    """
    rows: list[PublishedRow] = []
    for experiment in experiments:
        every = list(runs.get(experiment.name, ()))
        trained = _told_apart(experiment, group_rows(run for run in every if not run.is_later_evaluation))
        rows += [PublishedRow(experiment, "", experiment.paper, row) for row in _or_none(trained)]
        further = experiment.paper.also if experiment.paper else {}
        for key, one in further.items():
            rows += _further(experiment, key, one, every, trained)
    return rows


def _told_apart(experiment: Experiment, rows: list[Row]) -> list[Row]:
    """Rows of one experiment whose runs have names of their own, such as an algorithm's, under both names."""
    if len(rows) < 2 or len({row.first.name for row in rows}) < len(rows):
        return rows
    return [replace(row, label=f"{experiment.name} ({row.label})") for row in rows]


def _further(
    experiment: Experiment, key: str, one: FurtherRow, runs: Sequence[Run], trained: Sequence[Row]
) -> list[PublishedRow]:
    assert experiment.paper is not None
    paper = _with_values(experiment.paper, one)
    if not one.overrides:  # another step of the same test
        return [PublishedRow(experiment, key, paper, row) for row in _or_none(trained)]
    named = [_named(run, key) for run in runs if run.is_later_evaluation and set(run.record.overrides) == set(one.overrides)]
    tested = group_rows(named)
    return [PublishedRow(experiment, key, paper, row, trained[0] if trained else None) for row in _or_none(tested)]


def _or_none(rows: Sequence[Row]) -> Sequence[Row | None]:
    """The rows, or one place for those that are not there yet."""
    return rows or (None,)


def _named(run: Run, key: str) -> Run:
    """The evaluation under the name of its row: its folder's name is a hash, in which seeds differ."""
    return replace(run, directory=run.directory.with_name(key))


def _with_values(paper: Paper, one: FurtherRow) -> Paper:
    """The paper block with the values of a further row."""
    tolerance = paper.tolerance if one.tolerance is None else one.tolerance
    return replace(
        paper,
        table=one.table,
        published=one.published,
        mark=one.mark or paper.mark,
        tolerance=tolerance,
        step=one.step,
        also={},
    )


def standing(rows: Sequence[PublishedRow]) -> str:
    """Say of the rows of one experiment what was reproduced, and in how many minutes of training.

    Such as ``2 of 3 numbers reproduced or better, 12 minutes``, or ``not run yet``.
    """
    trained = next((row.trained or row.row for row in rows if row.row is not None), None)
    if trained is None:
        return "not run yet"
    compared = [row for row in rows if row.comparison is not None]
    good = sum(row.good or row.comparison.within for row in compared if row.comparison is not None)
    found = f"{good} of {len(compared)} numbers reproduced or better" if compared else "run, no published number"
    seconds = trained.training_seconds
    return found if seconds is None else f"{found}, {max(1, round(seconds / 60))} min"
