"""The page docs/results.md: published numbers beside ours, generated from records alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metaloop.problems.metric import Metric
from metaloop.records.runs import Run
from metaloop.records.schema import Paper
from metaloop.report import formats
from metaloop.report.paper import MARKS, metric_of, published_text
from metaloop.report.tables.markdown import escape, table
from metaloop.report.tables.rows import Row, group_rows

_HEADERS = (
    "experiment", "setting", "inner steps", "outer steps", "published", "measured", "difference", "outcome", "sd over seeds",
    "seeds", "episodes", "norm", "transductive", "commit",
)  # fmt: skip


@dataclass(frozen=True)
class NotRun:
    """An experiment with a paper block but without a record.

    Attributes:
        name: name of the experiment.
        paper: its paper block.
    """

    name: str
    paper: Paper


def results_markdown(runs: Iterable[Run], not_run: Sequence[NotRun] = ()) -> str:
    """Make the page of all reproductions.

    Runs without a paper block are left out. Runs that differ only in their seed form one line. The experiments of
    ``not_run`` come last in their table.

    Raises:
        UserError: a paper block is wrong; names the run's directory.
    """
    rows = sorted((row for row in group_rows(runs) if row.first.paper), key=lambda row: row.label)
    marks = "; ".join(f"{mark}: {meaning}" for mark, meaning in MARKS.items())
    parts = [
        "# Results\n\nPublished numbers beside ours. `metaloop reproduce` generates this page from the records of runs, so "
        "changes by hand are lost; `metaloop reproduce --check` tests whether page and records agree.\n",
        f"Marks of published numbers: {marks}. Published intervals are as printed in the paper. Ours are Student's t "
        "intervals over meta-test episodes; the standard deviation over seeds has its own column.\n",
    ]
    if not rows and not not_run:
        return "\n".join([*parts, "No run with a `paper` block was given.\n"])
    by_metric: dict[Metric, list[Sequence[str]]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(_cells(row))
    for each in not_run:
        metric = metric_of(each.paper)
        by_metric.setdefault(metric, []).append(_missing_cells(each, metric))
    for metric in sorted(by_metric, key=lambda metric: metric.name):
        head = metric.heading
        parts.append(f"## {head[0].upper()}{head[1:]}\n\n{table(_HEADERS, by_metric[metric])}")
    if rows:
        parts.append("## Sources and deviations\n\n" + "\n".join(_notes(row) for row in rows))
    return "\n".join(parts)


def _cells(row: Row) -> Sequence[str]:
    comparison, test, training = row.comparison, row.first.test, row.first.training
    assert comparison is not None
    step = comparison.paper.step
    return (
        row.label,
        row.setting,
        str(test.steps if step is None else step),
        formats.NONE if training is None else str(training.steps),
        comparison.published_text,
        row.metric.interval(*row.measured),
        comparison.difference_text,
        comparison.outcome,
        row.metric.number(row.spread.sd),
        str(row.spread.n),
        str(row.interval.n),
        test.norm_mode,
        "yes" if test.transductive else "no",
        ", ".join(dict.fromkeys(_commit(run) for run in row.runs)),
    )


def _missing_cells(each: NotRun, metric: Metric) -> Sequence[str]:
    blank = formats.NONE
    published = published_text(each.paper, metric)
    return (each.name, *[blank] * 3, published, blank, blank, "not run", *[blank] * (len(_HEADERS) - 8))


def _commit(run: Run) -> str:
    git = run.record.git
    return f"{git.commit[:10]}{' (uncommitted changes)' if git.dirty else ''}" if git else "unknown"


def _notes(row: Row) -> str:
    paper = row.first.paper
    assert paper is not None
    command = " ".join(row.first.record.command)
    lines = [
        f"### {escape(row.label)}\n",
        f"{escape(paper.citation)}; {escape(paper.table)}.\n\nRun as `{command}`.\n\nDeviations:\n",
    ]
    return "\n".join([*lines, *(f"- {escape(deviation)}" for deviation in paper.deviations or ("none known",)), ""])
