"""Published and measured side by side: the ``paper`` block of an experiment, and docs/results.md from records."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metaloop.errors import UserError
from metaloop.records.runs import METRICS, Run, find_runs
from metaloop.report import formats
from metaloop.report.tables.markdown import escape, table
from metaloop.report.tables.rows import Row, group_rows
from metaloop.system.files import write_atomically

MARKS = {
    "V": "read in the authors' own repository or thread",
    "S": "seen in an independent copy of the paper's table",
    "M": "from memory, not confirmed",
}
Verdict = Literal["within tolerance", "better", "worse"]


@dataclass(frozen=True)
class PaperComparison:
    """A published number and ours, in the metric's own unit (accuracy in [0, 1]).

    Attributes:
        published: the paper's mean.
        published_half_width: its interval as printed there; papers differ in what they call an interval.
        measured: our meta-test mean.
        difference: ``measured - published``.
        within: whether the difference is at most the tolerance that the experiment file states.
        verdict: within tolerance, or on which side of it.
        mark: how the published number is known, a key of ``MARKS``.
        metric: ``"accuracy"``, ``"entity_f1"`` or ``"mse"``.
    """

    published: float
    published_half_width: float | None
    measured: float
    difference: float
    within: bool
    verdict: Verdict
    mark: str
    metric: str

    @property
    def outcome(self) -> str:
        """``reproduced``, or by how much it is off and on which side."""
        return "reproduced" if self.within else f"off by {self.difference_text} ({self.verdict})"

    @property
    def published_text(self) -> str:
        """The published number with its interval and its mark, such as ``98.70 ± 0.40 [S]``."""
        return f"{formats.score(self.published, self.published_half_width, self.metric)} [{self.mark}]"

    @property
    def difference_text(self) -> str:
        """The signed difference."""
        return formats.difference(self.difference, self.metric)


def check_paper(paper: Mapping[str, Any], metric: str) -> None:
    """Check a ``paper`` block; to be called before training, so that no finished run turns out unreadable.

    Raises:
        UserError: names the key of the block that is missing or wrong.
    """
    for key in ("citation", "table", "published", "mark", "tolerance"):
        if paper.get(key) is None:
            raise UserError(f"paper.{key} is missing; a paper block needs citation, table, published, mark and tolerance")
    said = paper.get("metric", metric or None)
    if said not in (None, *METRICS) or (metric and said != metric):
        raise UserError(f"paper.metric={said!r}: the run's is {metric or ' or '.join(METRICS)}")
    if paper["mark"] not in MARKS:
        raise UserError(f"paper.mark={paper['mark']!r}: one of {', '.join(MARKS)}")
    published = paper["published"]
    if not isinstance(published, Mapping) or not isinstance(published.get("mean"), int | float):
        raise UserError(f"paper.published={published!r}: needs a mean, and a half_width where the paper prints one")
    numbers = {"published.mean": published["mean"], "published.half_width": published.get("half_width")}
    for key, value in {**numbers, "tolerance": paper["tolerance"]}.items():
        allowed = 1.0 if metric != "mse" else math.inf
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= allowed):
            unit = "a fraction in [0, 1], not percent" if metric != "mse" else "at least 0"
            raise UserError(f"paper.{key}={value!r}: give it as {unit}")


def at_published_step(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mean and half-width of our score after as many inner steps as the published one (``paper.step``; absent: all).

    Raises:
        UserError: the run's adaptation curve does not reach that step.
    """
    step, test = record["paper"].get("step"), record["test"]
    if step is None:
        return test
    found = [point for point in test["curve"] if point["step"] == step]
    if not found:
        steps = ", ".join(str(point["step"]) for point in test["curve"])
        raise UserError(f"paper.step={step!r}: the run's adaptation curve has the steps {steps}")
    return found[0]


def compare(record: Mapping[str, Any], measured: float | None = None) -> PaperComparison | None:
    """Compare a record with what its paper published; None where it has no paper block.

    Args:
        record: a whole record.
        measured: the measured mean where it is not the record's own, such as the mean over several seeds.

    Raises:
        UserError: the paper block is wrong, see :func:`check_paper`.
    """
    paper, test = record.get("paper"), record["test"]
    if not paper:
        return None
    check_paper(paper, test["metric"])
    published = paper["published"]
    ours = at_published_step(record)["mean"] if measured is None else measured
    difference = ours - published["mean"]
    within = abs(difference) <= paper["tolerance"] + 1e-12  # a difference printed as the tolerance is within it
    better = difference > 0 if test["metric"] != "mse" else difference < 0
    verdict: Verdict = "within tolerance" if within else ("better" if better else "worse")
    half_width = published.get("half_width")
    return PaperComparison(published["mean"], half_width, ours, difference, within, verdict, paper["mark"], test["metric"])


@dataclass(frozen=True)
class NotRun:
    """An experiment with a paper block of which there is no record.

    Attributes:
        name: of the experiment.
        paper: its block.
        metric: ``"accuracy"``, ``"entity_f1"`` or ``"mse"``.
    """

    name: str
    paper: Mapping[str, Any]
    metric: str

    @property
    def published_text(self) -> str:
        """The published number with its interval and its mark."""
        published = self.paper["published"]
        return f"{formats.score(published['mean'], published.get('half_width'), self.metric)} [{self.paper['mark']}]"


def write_results(paths: Sequence[Path], destination: Path) -> Path:
    """Write :func:`results_markdown` of all runs in and below ``paths``.

    Raises:
        UserError: there is no readable run, or a paper block is wrong.
    """
    runs, failures = find_runs(paths)
    if not runs:
        raise UserError(f"no readable run below {', '.join(map(str, paths))}: {'; '.join(why for _, why in failures)}")
    return write_atomically(destination, results_markdown(runs))


def results_markdown(runs: Iterable[Run], not_run: Sequence[NotRun] = ()) -> str:
    """The page docs/results.md: every reproduction, published beside measured, from records alone.

    Runs without a paper block are left out; runs that differ only in their seed are one line. Experiments that were
    ``not_run`` come last in their table.

    Raises:
        UserError: a paper block is wrong; names the run's directory.
    """
    rows = sorted((row for row in group_rows(runs) if row.first.paper), key=lambda row: row.label)
    marks = "; ".join(f"{mark}: {meaning}" for mark, meaning in MARKS.items())
    parts = [
        "# Results\n\nPublished numbers beside ours. This page is generated from the records of runs by "
        "`metaloop reproduce`, which also says (`--check`) whether it still agrees with them; a change by hand is lost.\n",
        f"Mark of a published number: {marks}. Published intervals are as printed in the paper. Ours are Student's t "
        "intervals over meta-test episodes; the standard deviation over seeds is another number, in its own column.\n",
    ]
    if not rows and not not_run:
        return "\n".join([*parts, "No run with a `paper` block was given.\n"])
    for metric in METRICS:
        chosen = [row for row in rows if row.first.metric == metric]
        missing = [each for each in not_run if each.metric == metric]
        if chosen or missing:
            head = formats.metric_title(metric)
            lines = [_cells(row) for row in chosen] + [_missing_cells(each) for each in missing]
            parts.append(f"## {head[0].upper()}{head[1:]}\n\n{table(_HEADERS, lines)}")
    if rows:
        parts.append("## Sources and deviations\n\n" + "\n".join(_notes(row) for row in rows))
    return "\n".join(parts)


_HEADERS = (
    "experiment", "setting", "inner steps", "outer steps", "published", "measured", "difference", "outcome", "sd over seeds",
    "seeds", "episodes", "norm", "transductive", "commit",
)  # fmt: skip


def row_comparison(row: Row) -> PaperComparison | None:
    """A row's mean over seeds against its paper.

    Raises:
        UserError: the paper block is wrong; names the run's directory.
    """
    try:
        return compare(row.first.record, _measured(row)[0])
    except UserError as error:
        raise UserError(f"{row.first.directory}: {error}") from error


def _measured(row: Row) -> tuple[float, float | None]:
    """A row's mean over its seeds after as many inner steps as published, and its half-width over episodes where known."""
    if (row.first.paper or {}).get("step") is None:
        return row.interval.mean, row.interval.half_width
    points = [at_published_step(run.record) for run in row.runs]
    return sum(point["mean"] for point in points) / len(points), points[0]["half_width"] if len(points) == 1 else None


def _cells(row: Row) -> Sequence[str]:
    comparison, test = row_comparison(row), row.first.test
    assert comparison is not None
    return (
        row.label,
        row.setting,
        str((row.first.paper or {}).get("step", test.get("steps"))),
        str((row.first.record.get("training") or {}).get("steps", "–")),
        comparison.published_text,
        formats.score(*_measured(row), row.first.metric),
        comparison.difference_text,
        comparison.outcome,
        formats.number(row.spread.sd, row.first.metric),
        str(row.spread.n),
        str(row.interval.n),
        test["norm_mode"],
        "yes" if test["transductive"] else "no",
        ", ".join(dict.fromkeys(_commit(run) for run in row.runs)),
    )


def _missing_cells(each: NotRun) -> Sequence[str]:
    blank = formats.NONE
    return (each.name, *[blank] * 3, each.published_text, blank, blank, "not run", *[blank] * (len(_HEADERS) - 8))


def _commit(run: Run) -> str:
    git = run.record.get("git")
    return f"{git['commit'][:10]}{' (uncommitted changes)' if git['dirty'] else ''}" if git else "unknown"


def _notes(row: Row) -> str:
    paper = row.first.paper or {}
    deviations = paper.get("deviations") or ["none known"]
    source = f"{escape(paper['citation'])}; {escape(paper['table'])}."
    command = " ".join(row.first.record["command"])
    lines = [f"### {escape(row.label)}\n", f"{source}\n\nRun as `{command}`.\n\nDeviations:\n"]
    return "\n".join([*lines, *(f"- {escape(deviation)}" for deviation in deviations), ""])
