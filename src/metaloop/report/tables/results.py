"""The results table, for display (Markdown, LaTeX, the page) and for programs (CSV)."""

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from metaloop.problems.metric import Metric
from metaloop.report import formats
from metaloop.report.tables.facts import fact, short_names, show, varied
from metaloop.report.tables.latex import escape as latex
from metaloop.report.tables.markdown import escape as markdown
from metaloop.report.tables.markdown import escaped_table as markdown_table
from metaloop.report.tables.rows import Row
from metaloop.system.spreadsheets import safe_cell

_GROUPS = ("algorithm", "model", "dataset")  # have columns in every table
Value = str | float | int | bool | None


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: displayed text.
        value: value to sort by; None comes last.
        mark: ``"best"``, ``"alike"`` (not significantly different from the best), or empty.
    """

    text: str
    value: Value
    mark: Literal["best", "alike", ""] = ""


@dataclass(frozen=True)
class Table:
    """A table, independent of its format.

    Attributes:
        headers: column titles.
        rows: the cells of each row.
        numeric: for each column, whether it holds numbers, which are aligned to the right.
        caption: explanation of the numbers and marks; may be empty.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[bool, ...]
    caption: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its title, whether it holds numbers, and how a row's cell is made."""

    title: str
    numeric: bool
    cell: Callable[[Row], Cell]


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Order rows by data set, setting and metric, as these come, and within them from the best score to the worst."""
    kinds: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row.choice("dataset"), row.setting, row.metric.name), []).append(row)

    def badness(row: Row) -> tuple[bool, float]:
        return not isfinite(row.interval.mean), -row.metric.sign * row.interval.mean

    return [row for members in kinds.values() for row in sorted(members, key=badness)]


def results_table(rows: Sequence[Row]) -> Table:
    """Make the table of all rows. Columns of published numbers are included if a row has one.

    Raises:
        UserError: a paper block is wrong; names the run's directory.
    """
    keys = [key for key in varied([run for row in rows for run in row.runs]) if key not in _GROUPS]
    columns = _columns({row.metric for row in rows}, any(row.first.paper for row in rows), keys, _distinct(rows, keys))
    cells = tuple(tuple(column.cell(row) for column in columns) for row in rows)
    return Table(tuple(c.title for c in columns), cells, tuple(c.numeric for c in columns))


def to_markdown(content: Table) -> str:
    """Format as a Markdown pipe table, with the caption below."""

    def text(cell: Cell) -> str:
        shown = markdown(cell.text)
        return f"**{shown}**" if cell.mark == "best" else f"{shown} ≈" if cell.mark == "alike" else shown

    lines = markdown_table([markdown(head) for head in content.headers], [[text(cell) for cell in row] for row in content.rows])
    return lines + (f"\n{markdown(content.caption)}\n" if content.caption else "")


def to_latex(content: Table) -> str:
    r"""Format as a LaTeX tabular in booktabs style; needs ``\usepackage{booktabs}``. The caption is a comment above it."""

    def text(cell: Cell) -> str:
        shown = latex(cell.text)
        return rf"\textbf{{{shown}}}" if cell.mark == "best" else rf"{shown} $\approx$" if cell.mark == "alike" else shown

    lines = [" & ".join(latex(text) for text in content.headers) + r" \\", r"\midrule"]
    lines += [" & ".join(text(cell) for cell in row) + r" \\" for row in content.rows]
    layout = "".join("r" if numeric else "l" for numeric in content.numeric)
    comments = [f"% {line}" for line in textwrap.wrap(content.caption, 100)]
    return "\n".join([*comments, rf"\begin{{tabular}}{{{layout}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def to_csv(headers: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """Format as comma-separated values with a header line; None becomes an empty cell, formulas become texts."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(safe_cell, headers))
    writer.writerows(map(safe_cell, row) for row in rows)
    return buffer.getvalue()


def results_csv(rows: Sequence[Row]) -> str:
    """CSV of all rows in full precision, always with the same columns.

    Scores are as stored (accuracies as fractions), memory is in bytes, speed in tasks per second.

    Raises:
        UserError: a paper block is wrong; names the run's directory.
    """
    records = [_raw(row) for row in rows]
    headers = list(records[0]) if records else []
    return to_csv(headers, [list(record.values()) for record in records])


def _columns(metrics: set[Metric], with_paper: bool, keys: Sequence[str], distinct: bool) -> list[Column]:
    """Columns of a table whose rows have these metrics."""

    def plain(title: str, get: Callable[[Row], str]) -> Column:
        return Column(title, False, lambda row: Cell(get(row), get(row)))

    def amount(title: str, get: Callable[[Row], float | None], show: Callable[[float | None], str]) -> Column:
        return Column(title, True, lambda row: Cell(show(get(row)), get(row)))

    head = next(iter(metrics)).heading if len(metrics) == 1 else "score"
    paper = [
        Column("published", True, lambda row: _paper_cell(row, "published")),
        Column("difference", True, lambda row: _paper_cell(row, "difference")),
    ]
    return [
        plain("name", (lambda row: row.first.name) if distinct else (lambda row: row.label)),
        plain("algorithm", lambda row: row.choice("algorithm")),
        plain("model", lambda row: row.choice("model")),
        plain("dataset", lambda row: row.choice("dataset")),
        plain("setting", lambda row: row.setting),
        *([plain("metric", lambda row: row.metric.heading)] if len(metrics) > 1 else []),
        Column(head, True, _score_cell),
        Column("sd over seeds", True, lambda row: Cell(row.metric.number(row.spread.sd), row.spread.sd)),
        *(paper if with_paper else []),
        *(_key_column(key, name) for key, name in short_names(keys).items()),
        amount("episodes", lambda row: row.interval.n, lambda value: f"{value:.0f}"),
        amount("seeds", lambda row: row.spread.n, lambda value: f"{value:.0f}"),
        plain("norm", lambda row: row.first.test.norm_mode),
        plain("transductive", lambda row: "yes" if row.first.test.transductive else "no"),
        amount("tasks/s", lambda row: row.tasks_per_second, formats.rate),
        amount("peak memory", lambda row: row.peak_memory, formats.memory),
    ]


def _distinct(rows: Sequence[Row], keys: Sequence[str]) -> bool:
    """Whether short names and the columns of keys suffice to distinguish all rows."""
    identities = {
        (row.first.name, *(row.choice(group) for group in _GROUPS), *(fact(row.first, key) for key in keys)) for row in rows
    }
    return len(identities) == len(rows)


def _key_column(key: str, name: str) -> Column:
    """Column of a key in which rows differ."""
    return Column(name, False, lambda row: Cell(show(fact(row.first, key)), show(fact(row.first, key))))


def _score_cell(row: Row) -> Cell:
    interval = row.interval
    return Cell(row.metric.interval(interval.mean, interval.half_width), interval.mean)


def _paper_cell(row: Row, part: str) -> Cell:
    comparison = row.comparison
    if comparison is None:
        return Cell(formats.NONE, None)
    if part == "published":
        return Cell(comparison.published_text, comparison.published)
    return Cell(comparison.difference_text, comparison.difference)


def _raw(row: Row) -> dict[str, Value]:
    test, interval, comparison = row.first.test, row.interval, row.comparison
    published = comparison.paper.published if comparison else None
    return {
        "name": row.label,
        "algorithm": row.choice("algorithm"),
        "model": row.choice("model"),
        "dataset": row.choice("dataset"),
        "split": test.split,
        "ways": formats.span(test.ways, "-"),
        "shots": formats.span(test.shots, "-"),
        "queries": test.queries,
        "inner_steps": test.steps,
        "metric": row.metric.name,
        "mean": interval.mean,
        "half_width": interval.half_width,
        "level": interval.level,
        "episodes": interval.n,
        "seeds": row.spread.n,
        "sd_over_seeds": row.spread.sd,
        "norm_mode": test.norm_mode,
        "transductive": test.transductive,
        "tasks_per_second": row.tasks_per_second,
        "peak_memory_bytes": row.peak_memory,
        "published": comparison.published if comparison else None,
        "published_half_width": published.half_width if published else None,
        "published_mark": comparison.paper.mark if comparison else None,
        "difference": comparison.difference if comparison else None,
    }
