"""The page over several runs: one self-contained HTML file, with its tables and figures as files beside it."""

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.explanations import read_explanation
from metaloop.records.runs import Run, find_runs
from metaloop.records.tables import read_samples
from metaloop.records.trajectories import read_trajectories
from metaloop.report.figures.control_pictures import control_pictures
from metaloop.report.figures.importance_plot import feature_figure
from metaloop.report.figures.pictures import Draw, Picture, picture
from metaloop.report.figures.plots import adaptation_curves, learning_curves
from metaloop.report.figures.sheets import sample_figure
from metaloop.report.pages.ablation import Section, sections
from metaloop.report.pages.search_section import Search, find_searches, pruned, search_sections, without_unchosen
from metaloop.report.pages.sweeps import Sweep, find_sweeps
from metaloop.report.pages.unfinished import Failure, find_unfinished, log_end
from metaloop.report.pages.views import RunView, run_view, templates
from metaloop.report.paper import compare
from metaloop.report.tables import results as tables
from metaloop.report.tables.pairs import ALL_PAIRS_UP_TO, compare_pairs, pairs_csv_rows, pairs_table
from metaloop.report.tables.pivot import Pivot, make_pivot
from metaloop.report.tables.pivot_tables import pivot_csv, pivot_table
from metaloop.report.tables.question import Question, default_question
from metaloop.report.tables.rows import Row, group_rows
from metaloop.system.files import write_atomically
from metaloop.system.terminal import printable

# Of more runs than this, each is a line with a link to its own page instead of a section with pictures.
SECTIONS_UP_TO = 24
Choose = Callable[[Sequence[Run]], list[Run]]
Ask = Callable[[Sequence[Run]], Question | None]


@dataclass(frozen=True)
class Block:
    """The part of a page for the rows of one metric.

    Attributes:
        title: heading of the metric.
        suffix: suffix of its files' names; empty for a single metric.
        pivot: the table of settings, or None.
        sections: sections that compare settings.
        curves: (file name, figure) of each.
    """

    title: str
    suffix: str
    pivot: Pivot | None
    sections: Sequence[Section]
    curves: Sequence[tuple[str, Picture]]


@dataclass(frozen=True)
class Report:
    """A written page.

    Attributes:
        page: path of the page.
        sweeps: the sweeps that the runs belong to.
        failures: the runs that are missing from its tables.
    """

    page: Path
    sweeps: Sequence[Sweep]
    failures: Sequence[Failure]


def make_report(paths: Sequence[Path], destination: Path, ask: Ask = default_question, choose: Choose = list) -> Report:
    """Read all runs in and below ``paths`` and write their page.

    Args:
        paths: directories of runs, or of folders of runs.
        destination: folder of the page; created if it is missing.
        ask: chooses the keys to pivot runs of one metric by.
        choose: selects the runs to report on, at least one.

    Raises:
        UserError: there is no readable run (lists each path with the reason), or the pivot's keys do not fit the runs.
        OSError: the page cannot be written.
    """
    runs, unread = find_runs(paths)
    searches, broken = find_searches(paths)
    stopped = pruned(searches)
    sweeps, damaged = find_sweeps(paths)
    missing = [each for sweep in sweeps for each in sweep.missing]
    reported = stopped | {each.path.resolve() for each in missing}
    unfinished = [each for each in find_unfinished(paths) if each.path.resolve() not in reported]
    unreadable = [Failure(path, reason, log_end(path)) for path, reason in unread]
    failures = [
        replace(each, reason=printable(each.reason), log=printable(each.log))
        for each in (*unreadable, *broken, *damaged, *missing, *unfinished)
    ]
    if not runs:
        reasons = "\n".join(f"  {failure.path}: {failure.reason}" for failure in failures)
        raise UserError(f"no readable run to report on; give the directories of finished runs\n{reasons}".rstrip())
    return write_page(choose(without_unchosen(runs, searches)), failures, destination, ask, searches, sweeps)


def write_page(
    runs: Sequence[Run],
    failures: Sequence[Failure],
    destination: Path,
    ask: Ask = default_question,
    searches: Mapping[Path, Search] | None = None,
    sweeps: Sequence[Sweep] = (),
) -> Report:
    """Write ``index.html``, ``table``, ``pivot`` and ``paired`` as ``.md``, ``.csv`` and ``.tex``, and ``figures/``.

    A run with broken samples or a wrong paper block is listed among the failures.

    Args:
        runs: at least one run.
        failures: runs that could not be read.
        destination: folder of the page; created if it is missing.
        ask: chooses the keys to pivot runs of one metric by.
        searches: searches whose trials the runs are, by folder.
        sweeps: sweeps that the runs belong to.

    Raises:
        UserError: none of the runs can be shown, or the pivot's keys do not fit them.
        OSError: a file cannot be written.
    """
    sound, broken = _checked(runs)
    failures = [*failures, *broken]
    if not sound:
        raise UserError("no run can be shown:\n" + "\n".join(f"  {each.path}: {each.reason}" for each in failures))
    rows = tables.best_first(group_rows(sound))
    blocks, pairs = _blocks(rows, ask), compare_pairs(rows)
    table, paired = tables.results_table(rows), pairs_table(pairs)
    _write_tables(destination, "table", table, tables.results_csv(rows))
    if pairs:
        _write_tables(destination, "paired", paired, tables.to_csv(*pairs_csv_rows(pairs)))
    searched = search_sections(searches or {})
    for block in [*blocks, Block("", "", None, searched, [])]:
        _write_block(destination, block)
    few = len(sound) <= SECTIONS_UP_TO
    page = (
        templates()
        .get_template("page.html")
        .render(
            title=f"{len(sound)} run{'s' if len(sound) > 1 else ''}",
            table=table,
            paired=paired if pairs else None,
            pair_limit=ALL_PAIRS_UP_TO,
            searched=searched,
            blocks=[(block, pivot_table(block.pivot) if block.pivot else None) for block in blocks],
            runs=_views(rows) if few else [],
            run_lines=[] if few else _lines(rows, destination),
            sweeps=[(str(sweep.folder), sweep.text) for sweep in sweeps],
            failures=[(str(each.path), each.reason, each.log) for each in failures],
        )
    )
    return Report(write_atomically(destination / "index.html", page), sweeps, failures)


def _checked(runs: Sequence[Run]) -> tuple[list[Run], list[Failure]]:
    """Separate the runs whose section can be made from the others, which get a reason."""
    sound: list[Run] = []
    broken: list[Failure] = []
    for run in runs:
        try:
            compare(run.record)
            if len(runs) <= SECTIONS_UP_TO:
                read_samples(run.directory)
                read_explanation(run.directory)
                read_trajectories(run.directory)
            sound.append(run)
        except UserError as error:
            broken.append(Failure(run.directory, str(error)))
    return sound, broken


def _blocks(rows: Sequence[Row], ask: Ask) -> list[Block]:
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row.metric.name, []).append(row)
    blocks = []
    for name, members in sorted(by_metric.items()):
        metric = members[0].metric
        runs = [run for row in members for run in row.runs]
        question = ask(runs)
        pivot = make_pivot(runs, question) if question else None
        suffix = f"_{name}" if len(by_metric) > 1 else ""
        best_first = sorted(members, key=lambda row: -metric.sign * row.interval.mean)
        blocks.append(Block(metric.heading, suffix, pivot, sections(members), _curves(best_first, metric.heading)))
    return blocks


def _curves(rows: Sequence[Row], title: str) -> list[tuple[str, Picture]]:
    """Learning and adaptation curves of rows in order of their score, best first."""
    steps = " and ".join(dict.fromkeys(f"{row.first.test.curve_over}s" for row in rows))
    drawn = {
        "learning": picture(
            lambda theme: learning_curves(rows, theme), f"loss and {title} over outer steps, one color per row"
        ),
        "adaptation": picture(lambda theme: adaptation_curves(rows, theme), f"{title} over {steps}, one color per row"),
    }
    return [(name, each) for name, each in drawn.items() if each is not None]


def _write_tables(destination: Path, name: str, content: tables.Table, raw: str) -> None:
    write_atomically(destination / f"{name}.md", tables.to_markdown(content))
    write_atomically(destination / f"{name}.tex", tables.to_latex(content))
    write_atomically(destination / f"{name}.csv", raw)


def _write_block(destination: Path, block: Block) -> None:
    if block.pivot is not None:
        _write_tables(destination, f"pivot{block.suffix}", pivot_table(block.pivot), pivot_csv(block.pivot))
    pictures = [*block.curves, *(each for section in block.sections for each in section.pictures)]
    for name, drawn in pictures:
        write_atomically(destination / "figures" / f"{name}{block.suffix}.png", base64.b64decode(drawn.light))


def _views(rows: Sequence[Row]) -> list[RunView]:
    views: list[RunView] = []
    for label, run in _labelled(rows):
        views.append(run_view(run, label, f"run-{len(views) + 1}", _sheet(run)))
    return views


def _labelled(rows: Sequence[Row]) -> list[tuple[str, Run]]:
    return [(row.label if len(row.runs) == 1 else f"{row.label}, seed {run.seed}", run) for row in rows for run in row.runs]


def _lines(rows: Sequence[Row], destination: Path) -> list[tuple[str, str, str, str]]:
    """Name, score and directory of every run, and the link to its page page if it has one."""
    lines = []
    for label, run in _labelled(rows):
        page = run.directory / "report" / "index.html"
        link = os.path.relpath(page.resolve(), destination.resolve()) if page.is_file() else ""
        lines.append((label, run.metric.interval(run.test.mean, run.test.half_width), str(run.directory), link))
    return lines


def _sheet(run: Run) -> list[Picture]:
    samples, explanation = read_samples(run.directory), read_explanation(run.directory)
    draws: list[tuple[Draw, str]] = []
    if samples is not None:
        draws.append((lambda theme: sample_figure(samples, theme), "one episode with its predictions"))
    if explanation is not None:
        importances = explanation.importances
        draws.append((lambda theme: feature_figure(importances, theme), "the features that matter most, as bars"))
    drawn = [picture(draw, alt) for draw, alt in draws]
    return [*(each for each in drawn if each is not None), *control_pictures(run.directory).values()]
