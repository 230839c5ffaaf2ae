"""The page over several runs: one self-contained HTML file that opens from disk, and its tables as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.errors import UserError
from metaloop.report import formats, tables
from metaloop.report.collect import Run, find_runs, read_samples
from metaloop.report.files import write_atomically
from metaloop.report.pairs import ALL_PAIRS_UP_TO, compare_pairs, pairs_csv_rows, pairs_table
from metaloop.report.pictures import Draw, Picture, picture
from metaloop.report.plots import adaptation_curves, learning_curves
from metaloop.report.rows import Row, group_rows
from metaloop.report.sheets import sample_figure
from metaloop.report.views import RunView, run_view, templates

Failure = tuple[Path, str]


@dataclass(frozen=True)
class Curves:
    """The figures of all rows with one metric."""

    title: str
    pictures: Sequence[Picture]


def make_report(paths: Sequence[Path], destination: Path) -> Path:
    """Read all runs in and below ``paths`` and write their page.

    Returns:
        The page, ``destination/index.html``.

    Raises:
        UserError: there is no readable run; lists what was tried and why it failed.
        OSError: the page cannot be written.
    """
    runs, failures = find_runs(paths)
    if not runs:
        reasons = "\n".join(f"  {path}: {reason}" for path, reason in failures)
        raise UserError(f"no readable run to report on; give the directories of finished runs\n{reasons}".rstrip())
    return write_page(runs, failures, destination)


def write_page(runs: Sequence[Run], failures: Sequence[Failure], destination: Path) -> Path:
    """Write ``index.html``, ``table.md``, ``table.csv``, ``table.tex`` and, where runs share episodes, ``paired.*``.

    A run with broken samples or a wrong paper block is shown among the failures, the others as usual.

    Args:
        runs: at least one.
        failures: (path, reason) of what could not be read.
        destination: folder; made where it is missing.

    Returns:
        The page.

    Raises:
        UserError: none of the runs can be shown.
        OSError: a file cannot be written.
    """
    sound, broken = _checked(runs)
    failures = [*failures, *broken]
    if not sound:
        raise UserError("no run can be shown:\n" + "\n".join(f"  {path}: {reason}" for path, reason in failures))
    rows = group_rows(sound)
    table, pairs = tables.results_table(rows), compare_pairs(rows)
    paired = pairs_table(pairs)
    _write_tables(destination, "table", table, tables.results_csv(rows))
    if pairs:
        _write_tables(destination, "paired", paired, tables.to_csv(*pairs_csv_rows(pairs)))
    page = (
        templates()
        .get_template("page.html")
        .render(
            title=f"{len(sound)} run{'s' if len(sound) > 1 else ''}",
            table=table,
            paired=paired if pairs else None,
            pair_limit=ALL_PAIRS_UP_TO,
            curves=_curves(rows),
            runs=_views(rows),
            failures=[(str(path), reason) for path, reason in failures],
        )
    )
    return write_atomically(destination / "index.html", page)


def _checked(runs: Sequence[Run]) -> tuple[list[Run], list[Failure]]:
    """Runs whose section can be made, and the others with the reason."""
    sound: list[Run] = []
    broken: list[Failure] = []
    for run in runs:
        try:
            run_view(run, run.name, "", [])
            read_samples(run.directory)
            sound.append(run)
        except UserError as error:
            broken.append((run.directory, str(error)))
    return sound, broken


def _write_tables(destination: Path, name: str, content: tables.Table, raw: str) -> None:
    write_atomically(destination / f"{name}.md", tables.to_markdown(content))
    write_atomically(destination / f"{name}.tex", tables.to_latex(content))
    write_atomically(destination / f"{name}.csv", raw)


def _curves(rows: Sequence[Row]) -> list[Curves]:
    blocks = []
    for metric in ("accuracy", "mse"):
        chosen = [row for row in rows if row.first.metric == metric]
        title = formats.metric_title(metric)
        pictures = [_learning(chosen, title), _adaptation(chosen, title)] if chosen else []
        if any(pictures):
            blocks.append(Curves(title, [drawn for drawn in pictures if drawn]))
    return blocks


def _learning(rows: Sequence[Row], title: str) -> Picture | None:
    return picture(lambda theme: learning_curves(rows, theme), f"loss and {title} over outer steps, one colour a row")


def _adaptation(rows: Sequence[Row], title: str) -> Picture | None:
    return picture(lambda theme: adaptation_curves(rows, theme), f"{title} over inner steps, one colour a row")


def _views(rows: Sequence[Row]) -> list[RunView]:
    views: list[RunView] = []
    for row in rows:
        for run in row.runs:
            title = row.label if len(row.runs) == 1 else f"{row.label}, seed {run.seed}"
            views.append(run_view(run, title, f"run-{len(views) + 1}", _sheet(run)))
    return views


def _sheet(run: Run) -> list[Picture]:
    samples = read_samples(run.directory)
    if samples is None:
        return []
    draw: Draw = lambda theme: sample_figure(samples, theme)  # noqa: E731
    drawn = picture(draw, "one episode and the predictions for it")
    return [drawn] if drawn else []
