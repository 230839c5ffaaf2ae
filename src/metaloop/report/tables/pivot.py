"""Pivot table of runs by any keys: the runs of each cell, averaged, and the comparison within each column."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from metaloop.errors import UserError
from metaloop.metrics.interval import Spread, seed_spread, stratified_interval
from metaloop.records.runs import INCIDENTAL, Run
from metaloop.records.tables import Array
from metaloop.report.tables.cells import PivotCell, Place, judged
from metaloop.report.tables.facts import checked_keys, differing, fact, fits, levels, show, varied
from metaloop.report.tables.question import Question
from metaloop.report.tables.rows import Row, group_rows

_NAMED = 6  # keys that a message names


@dataclass(frozen=True)
class Pivot:
    """A pivot table.

    Attributes:
        question: the keys of its rows and columns.
        rows, columns: values of these keys along both sides, in order. Rows that begin with a name are grouped by it, and the
            group with the best row comes first.
        entries: the non-empty cells, by row and column.
        older: number of runs left out because a newer one has the same setting and seed.
    """

    question: Question
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    entries: Mapping[tuple[Place, Place], PivotCell]
    older: int

    def column(self, place: Place) -> dict[Place, PivotCell]:
        """Cells of a column, by row."""
        return {row: self.entries[row, place] for row in self.rows if (row, place) in self.entries}


def make_pivot(runs: Sequence[Run], question: Question) -> Pivot:
    """Pivot the runs.

    Raises:
        UserError: a key is unknown, runs of a cell differ in more than their seed, a column mixes metrics, or the baseline
            does not fit exactly one row.
    """
    for keys in (question.rows, question.columns, question.over, question.baseline or ()):
        checked_keys(runs, keys)
    kept = newest(runs)
    cells: dict[tuple[Place, Place], list[Run]] = {}
    for run in kept:
        place = tuple(tuple(fact(run, key) for key in keys) for keys in (question.rows, question.columns))
        cells.setdefault((place[0], place[1]), []).append(run)
    entries = {place: _entry(members, question, place) for place, members in cells.items()}
    pivot = Pivot(question, _sorted(p[0] for p in cells), _sorted(p[1] for p in cells), entries, len(runs) - len(kept))
    baseline = _baseline_row(pivot)
    compared = {}
    for column in pivot.columns:
        for row, entry in judged(pivot.column(column), baseline, column).items():
            compared[row, column] = entry
    return _best_first(replace(pivot, entries=compared))


def _best_first(pivot: Pivot) -> Pivot:
    """Order groups of rows by their best mean rank over the columns; numbers keep their order."""
    if not pivot.question.rows or any(isinstance(row[0], int | float) for row in pivot.rows):
        return pivot
    ranks: dict[Place, list[int]] = {row: [] for row in pivot.rows}
    for place in pivot.columns:
        column = pivot.column(place)
        order = sorted(column, key=lambda row: _badness(column[row]))
        for row in pivot.rows:
            ranks[row].append(order.index(row) if row in column else len(pivot.rows))
    group = {row[0]: min(fmean(ranks[other]) for other in pivot.rows if other[0] == row[0]) for row in pivot.rows}
    return replace(pivot, rows=tuple(sorted(pivot.rows, key=lambda row: group[row[0]])))  # stable within groups


def _badness(entry: PivotCell) -> tuple[bool, float]:
    """Key that sorts cells from the best to the worst, those that diverged last."""
    mean = entry.interval.mean
    return not np.isfinite(mean), -entry.metric.sign * mean


def newest(runs: Iterable[Run]) -> list[Run]:
    """Keep, of several runs of one setting and seed, the one that was created last."""
    latest: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = run.setting_key, run.seed
        if key not in latest or run.record.created >= latest[key].record.created:
            latest[key] = run
    return list(latest.values())


def _sorted(places: Iterable[Place]) -> tuple[Place, ...]:
    """Sort by the levels of each key in turn."""
    unique = list(dict.fromkeys(places))
    orders = [{value: number for number, value in enumerate(levels(values))} for values in zip(*unique, strict=True)]
    return tuple(sorted(unique, key=lambda place: [order[value] for order, value in zip(orders, place, strict=True)]))


def _entry(runs: Sequence[Run], question: Question, place: tuple[Place, Place]) -> PivotCell:
    settings: dict[str, list[Row]] = {}
    for row in group_rows(runs):
        settings.setdefault(row.first.setting_key, []).append(row)
    if len(settings) > 1:
        _refuse_mixtures(runs, question, place)
    metrics = sorted({run.metric.name for run in runs})
    if len(metrics) > 1:
        raise UserError(
            f"{_where(question, place)} holds {' and '.join(metrics)}; add a key to --rows or --columns that tells them apart"
        )
    by_data: dict[str, list[Array]] = {}
    for rows in settings.values():
        members = [run for row in rows for run in row.runs]  # rows of one setting differ only in their names
        by_data.setdefault(members[0].episodes_key, []).append(np.mean([run.scores for run in members], axis=0))
    strata = {key: np.mean(parts, axis=0) for key, parts in sorted(by_data.items())}
    interval = stratified_interval([scores.tolist() for scores in strata.values()], runs[0].test.level)
    averaged = [key for key in question.over if key not in INCIDENTAL]
    over = frozenset(tuple(fact(run, key) for key in averaged) for run in runs)
    return PivotCell(interval, _spread(runs, len(settings)), strata, over, runs[0].metric)


def _spread(runs: Sequence[Run], settings: int) -> Spread:
    """Spread over those seeds that all settings of the cell were run with."""
    seeds: dict[int, list[float]] = {}
    for run in runs:
        seeds.setdefault(run.seed, []).append(run.test.mean)
    whole = [float(np.mean(means)) for means in seeds.values() if len(means) == settings]
    return seed_spread(whole) if whole else Spread(float("nan"), None, 0)


def _refuse_mixtures(runs: Sequence[Run], question: Question, place: tuple[Place, Place]) -> None:
    groups: dict[Place, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(fact(run, key) for key in question.over), []).append(run)
    for members in groups.values():
        if len({run.setting_key for run in members}) > 1:
            keys = varied(members) or differing(members)
            more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
            raise UserError(
                f"{_where(question, place)} holds runs that differ in {', '.join(keys[:_NAMED])}{more}: add these to --rows or "
                f"--columns, average over them by --over {','.join(keys[:_NAMED])}, or choose runs by --where KEY=VALUE"
            )


def _where(question: Question, place: tuple[Place, Place]) -> str:
    keys, values = (*question.rows, *question.columns), (*place[0], *place[1])
    return (
        "the cell " + ", ".join(f"{key}={show(value)}" for key, value in zip(keys, values, strict=True))
        if keys
        else "the table"
    )


def _baseline_row(pivot: Pivot) -> Place | None:
    baseline, keys = pivot.question.baseline, pivot.question.rows
    if baseline is None:
        return None
    unknown = [key for key in baseline if key not in keys]
    if unknown:
        raise UserError(f"--baseline names {unknown[0]}, which is not a key of --rows; these are {', '.join(keys)}")
    matches = [
        row
        for row in pivot.rows
        if all(key not in baseline or fits(value, baseline[key]) for key, value in zip(keys, row, strict=True))
    ]
    if len(matches) != 1:
        rows = "; ".join(
            ", ".join(f"{k}={show(v)}" for k, v in zip(keys, row, strict=True)) for row in (matches or pivot.rows)[:_NAMED]
        )
        wanted = ", ".join(f"{key}={value}" for key, value in baseline.items())
        raise UserError(f"--baseline {wanted} fits {len(matches)} rows; name one, such as {rows}")
    return matches[0]


def coverage(pivot: Pivot) -> tuple[list[int], list[int]]:
    """Distinct numbers of seeds and of episodes that cells have, ascending."""
    entries = pivot.entries.values()
    return sorted(Counter(entry.spread.n for entry in entries)), sorted(Counter(entry.interval.n for entry in entries))
