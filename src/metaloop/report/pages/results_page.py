"""The page docs/results.md: published numbers beside ours, generated from records alone."""

from collections.abc import Sequence
from statistics import fmean

from metaloop.problems.metric import Metric
from metaloop.records.published import Paper
from metaloop.records.runs import Run
from metaloop.report import formats
from metaloop.report.paper import MARKS, published_text
from metaloop.report.tables.markdown import escape, table
from metaloop.report.tables.published import PublishedRow
from metaloop.report.tables.rows import Row

_HEADERS = (
    "row", "setting", "published", "measured", "difference", "outcome", "sd over seeds", "seeds", "episodes", "inner steps",
    "outer steps", "norm", "transductive", "wall", "CPU", "machine", "commit",
)  # fmt: skip


def results_markdown(rows: Sequence[PublishedRow], picture: str | None = None) -> str:
    """Make the page: what was run, grouped by data set with those of published numbers first, and then what was not run yet.

    Args:
        rows: the rows; those with neither a published number nor a record are left out.
        picture: path of the picture from the page; None without one.

    Raises:
        UserError: a record cannot be compared; names the run's directory.
    """
    rows = sorted((row for row in rows if row.metric is not None), key=lambda row: (row.experiment.dataset, row.label))
    marks = "; ".join(f"{mark}: {meaning}" for mark, meaning in MARKS.items())
    parts = [
        "# Results\n\nPublished numbers beside ours. `metaloop reproduce` generates this page from the records of runs, so "
        "changes by hand are lost; `metaloop reproduce --check` tests whether page and records agree, and `metaloop reproduce "
        "EXPERIMENT` runs a row again.\n",
        _summary(rows),
        f"Marks of published numbers: {marks}. Published intervals are as printed in the paper. Ours are Student's t "
        "intervals over meta-test episodes; the standard deviation over seeds has its own column. *Reproduced*: the intervals "
        "overlap, where a number without an interval is a point, or the difference is within the tolerance that the experiment "
        "declares, which is said. Times are means over seeds, of the training; other work may have shared the machine.\n",
    ]
    if picture is not None:
        parts.insert(1, _figure(picture))
    if not rows:
        return "\n".join([*parts, "No experiment has a published number or a record.\n"])
    run = [row for row in rows if row.row is not None]
    compared = {row.experiment.dataset for row in run if row.comparison is not None}
    for dataset in sorted({row.experiment.dataset for row in run}, key=lambda name: (name not in compared, name)):
        parts += _dataset(dataset, [row for row in run if row.experiment.dataset == dataset])
    parts += _not_run([row for row in rows if row.row is None])
    notes = [_notes(each) for each in _experiments(rows)]
    return "\n".join([*parts, "## Sources, commands and deviations\n", *notes])


def _figure(picture: str) -> str:
    return (
        f"![Published against measured, one dot a row]({picture})\n\nOne dot a row, with both intervals; shares as errors. "
        "Green: the intervals overlap or ours is better; orange: worse, but within the "
        "tolerance that the experiment declares; red: worse. Open dots: published numbers from memory (M).\n"
    )


def _summary(rows: Sequence[PublishedRow]) -> str:
    """Count published numbers, each once: one with several rows of records is good if all of these are."""
    published = [row for row in rows if row.paper is not None and row.paper.published is not None]
    compared = {row.label for row in published if row.comparison is not None}
    off = {row.label for row in published if row.comparison is not None and not row.good}
    count = len({row.label for row in published})
    return (
        f"Of {count} published numbers, {len(compared)} were measured; {len(compared - off)} of these are inside the published "
        "interval or better, both intervals counted.\n"
    )


def _dataset(dataset: str, rows: Sequence[PublishedRow]) -> list[str]:
    parts = [f"## {escape(dataset)}\n"]
    metrics = {row.metric: None for row in rows if row.metric is not None}
    for metric in sorted(metrics, key=lambda metric: metric.name):
        head = metric.heading
        cells = [_cells(row, metric) for row in rows if row.metric == metric]
        parts.append(f"{head[0].upper()}{head[1:]}\n\n{table(_HEADERS, cells)}")
    return parts


def _not_run(rows: Sequence[PublishedRow]) -> list[str]:
    """The published numbers and further settings that have no record yet."""
    cells = [(row.label, row.experiment.dataset, _published(row), row.metric.heading) for row in rows if row.metric]
    return ["## Not run yet\n", table(("row", "data set", "published", "metric"), cells)] if cells else []


def _published(row: PublishedRow) -> str:
    return formats.NONE if row.paper is None or row.metric is None else published_text(row.paper, row.metric)


def _cells(each: PublishedRow, metric: Metric) -> Sequence[str]:
    row, comparison = each.row, each.comparison
    assert row is not None
    assert each.measured is not None
    test, trained = row.first.test, each.trained or row
    step = each.paper.step if each.paper else None
    return (
        row.label if not each.key and row.label != row.first.name else each.label,
        row.setting,
        _published(each),
        metric.interval(*each.measured),
        formats.NONE if comparison is None else comparison.difference_text,
        outcome(each),
        metric.number(row.spread.sd) if step is None and metric == row.metric else formats.NONE,
        str(row.spread.n),
        str(row.interval.n),
        str(test.steps if step is None else step) if test.steps is not None else formats.NONE,
        formats.NONE if trained.first.training is None else str(trained.first.training.steps),
        test.norm_mode,
        "yes" if test.transductive else "no",
        formats.duration(trained.training_seconds),
        formats.duration(_processor_seconds(trained)),
        ", ".join(dict.fromkeys(_machine(run) for run in trained.runs)),
        ", ".join(dict.fromkeys(_commit(run) for run in trained.runs)),
    )


def outcome(row: PublishedRow) -> str:
    """What came of a row, in words."""
    comparison = row.comparison
    if row.row is None:
        return "not run yet"
    if comparison is None:
        return "no published number"
    if row.overlaps:
        return "reproduced"
    if comparison.within:
        return f"reproduced within the tolerance of {comparison.metric.number(comparison.paper.tolerance)}"
    return comparison.outcome


def _processor_seconds(row: Row) -> float | None:
    times = [run.training.cpu_seconds for run in row.runs if run.training and run.training.cpu_seconds]
    return fmean(times) if times else None


def _machine(run: Run) -> str:
    hardware = run.record.hardware
    threads = f", {hardware.threads} thread{'s' if hardware.threads > 1 else ''}" if hardware.threads else ""
    return f"{hardware.gpu or hardware.cpu}{threads}"


def _commit(run: Run) -> str:
    git = run.record.git
    return f"{git.commit[:10]}{' (uncommitted changes)' if git.dirty else ''}" if git else "unknown"


def _experiments(rows: Sequence[PublishedRow]) -> list[list[PublishedRow]]:
    """The rows of each experiment that was run, by name."""
    groups: dict[str, list[PublishedRow]] = {}
    for row in rows:
        if row.row is not None:
            groups.setdefault(row.experiment.name, []).append(row)
    return [groups[name] for name in sorted(groups)]


def _notes(rows: Sequence[PublishedRow]) -> str:
    experiment = rows[0].experiment
    lines = [f"### {escape(experiment.name)}\n"]
    if paper := experiment.paper:
        lines.append(f"{escape(paper.citation)}; {escape(paper.table)}.\n")
    commands = dict.fromkeys(" ".join(row.row.first.record.command) for row in rows if row.row)
    lines.append("Run as " + ", ".join(f"`{command}`" for command in commands) + ".\n")
    if paper:
        lines.append("Deviations:\n")
        lines += [*_bullets(paper.deviations or ("none known",)), ""]
        lines += _why_off(paper) if any(_off(row) for row in rows) else []
    return "\n".join(lines)


def _off(row: PublishedRow) -> bool:
    return row.comparison is not None and not row.good and not row.comparison.within


def _why_off(paper: Paper) -> Sequence[str]:
    """The likeliest cause of numbers that are off, and what was tried."""
    tried = ["Tried:\n", *_bullets(paper.tried), ""] if paper.tried else []
    return (f"Likeliest cause of what is off: {escape(paper.cause or 'not looked for yet')}.\n", *tried)


def _bullets(texts: Sequence[str]) -> Sequence[str]:
    return [f"- {escape(text)}" for text in texts]
