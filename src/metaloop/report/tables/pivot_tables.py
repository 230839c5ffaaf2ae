"""A pivot table for display, and as CSV for programs."""

from collections.abc import Sequence

from metaloop.report import formats
from metaloop.report.tables.cells import PivotCell, Place
from metaloop.report.tables.facts import short_names, show, titled
from metaloop.report.tables.pivot import Pivot, coverage
from metaloop.report.tables.results import Cell, Table, Value, to_csv

NOTHING = Cell("", None)


def pivot_table(pivot: Pivot) -> Table:
    """Format a pivot: score, interval and spread over seeds. With a baseline, the difference to it follows each column."""
    keys, with_base = pivot.question.rows, pivot.question.baseline is not None
    names = short_names(keys)
    heads = [names[key] for key in keys]
    single = len(pivot.columns) == 1
    for place in pivot.columns:
        metric = next(iter(pivot.column(place).values())).metric
        label = ", ".join(titled(key, value) for key, value in zip(pivot.question.columns, place, strict=True))
        title = metric.heading if single or not label else f"{label}: {metric.heading}"
        heads += [title, *(["difference" if single else f"{label}: difference"] if with_base else [])]
    cells = tuple(_row(pivot, row, with_base) for row in pivot.rows)
    wide = len(heads) - len(keys)
    return Table(tuple(heads), cells, (*(_numeric(pivot, i) for i in range(len(keys))), *[True] * wide), caption(pivot))


def _numeric(pivot: Pivot, number: int) -> bool:
    return all(isinstance(row[number], int | float) and not isinstance(row[number], bool) for row in pivot.rows)


def _row(pivot: Pivot, row: Place, with_base: bool) -> tuple[Cell, ...]:
    cells = [Cell(show(value), value) for value in row]
    for place in pivot.columns:
        entry = pivot.entries.get((row, place))
        cells.append(NOTHING if entry is None else _score(entry))
        if with_base:
            cells.append(NOTHING if entry is None else _difference(entry))
    return tuple(cells)


def _score(entry: PivotCell) -> Cell:
    text = entry.metric.interval(entry.interval.mean, entry.interval.half_width)
    if entry.spread.sd is not None:
        text += f" ({entry.metric.number(entry.spread.sd)})"
    return Cell(text, entry.interval.mean, "best" if entry.best else "alike" if entry.alike else "")


def _difference(entry: PivotCell) -> Cell:
    if entry.against is None:
        return Cell(formats.NONE, None)
    gap = entry.against.interval
    significant = entry.p_against is not None and entry.p_against <= 1 - gap.level
    return Cell(formats.difference(gap, entry.metric) + ("*" if significant else ""), gap.mean)


def caption(pivot: Pivot) -> str:
    """Explanation of the numbers and marks in the table."""
    entries, question = list(pivot.entries.values()), pivot.question
    level = entries[0].interval.level
    seeds, episodes = coverage(pivot)
    alpha, percent = formats.percent(round(1 - level, 9)), formats.percent(level)
    parts = [
        f"Mean and {percent} interval over {formats.either(episodes)} meta-test episodes; {formats.either(seeds)} "
        f"seed{'s' if seeds != [1] else ''} per cell."
    ]
    if any(entry.spread.sd is not None for entry in entries):
        parts.append("In brackets: the standard deviation over seeds, which is not the interval.")
    if len(pivot.rows) > 1:
        parts.append(
            f"Bold: the best of its column; ≈: not significantly different from it (paired t tests over the same "
            f"episodes{', with the spread over seeds' if seeds != [1] else ''}, corrected by Holm over all pairs of the "
            f"column, {alpha})."
        )
    if question.baseline is not None:
        wanted = ", ".join(f"{key} = {value}" for key, value in question.baseline.items())
        parts.append(
            f"Difference to {wanted}, paired over the same episodes{', with the spread over seeds' if seeds != [1] else ''}; "
            f"* significant at {alpha} after Holm's correction over the column."
        )
    if question.over:
        parts.append(f"Averaged over {', '.join(question.over)}, each value counting the same.")
        if len({entry.over for entry in entries}) > 1:
            parts.append(
                "Not every cell has all of these values; cells that were averaged over different values are not compared."
            )
    if pivot.older:
        parts.append(
            f"{pivot.older} older run{'s' if pivot.older > 1 else ''} of a setting and seed that was run again "
            f"{'are' if pivot.older > 1 else 'is'} left out."
        )
    return " ".join(parts)


def pivot_csv(pivot: Pivot) -> str:
    """CSV with one line per cell, in full precision and plain units (accuracy in [0, 1])."""
    question = pivot.question
    headers = [
        *question.rows, *question.columns, "metric", "mean", "half_width", "level", "episodes", "sd_over_seeds", "seeds",
        "best", "p_against_best",
        "difference", "difference_half_width", "p_difference",
    ]  # fmt: skip
    lines: list[Sequence[Value]] = []
    for place in pivot.columns:
        for row, entry in pivot.column(place).items():
            interval, against = entry.interval, entry.against
            numbers = [interval.mean, interval.half_width, interval.level, interval.n, entry.spread.sd, entry.spread.n]
            difference = [against.interval.mean, against.interval.half_width] if against else [None, None]
            lines.append([*row, *place, entry.metric.name, *numbers, entry.best, entry.p_best, *difference, entry.p_against])
    return to_csv(headers, lines)
