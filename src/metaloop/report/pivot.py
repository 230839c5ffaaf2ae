"""Runs pivoted by any keys: which cell holds which runs, the best of each column, and what does not differ from it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metaloop.errors import UserError
from metaloop.metrics.interval import Interval, Spread, seed_spread, stratified_interval
from metaloop.metrics.multiple import holm
from metaloop.metrics.paired import PairedDifference, stratified_difference
from metaloop.report.collect import INCIDENTAL, Run
from metaloop.report.facts import Fact, checked_keys, differing, fact, fits, levels, show, titled, varied
from metaloop.report.rows import Row, group_rows

Place = tuple[Fact, ...]
_DATA = ("dataset", "episode", "episodes", "setting", "split", "ways", "shots", "queries")
_NAMED = 6  # keys that a message names
_WIDEST, _FULL = 8, 0.6  # values of a key that becomes columns where nobody asked, and the share of cells that must be there


@dataclass(frozen=True)
class Question:
    """What to pivot by; see :func:`metaloop.report.facts.fact` for keys.

    Attributes:
        rows: keys whose combinations are rows.
        columns: keys whose combinations are columns.
        over: keys that are averaged over.
        baseline: of each key that it names its value in the row that all others are compared with; None for none.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    baseline: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Entry:
    """One cell.

    Attributes:
        interval: mean and interval over episodes; an episode's score is its mean over seeds, several data sets count the same.
        spread: of the seeds' means.
        strata: scores by ascending episode number, by what the episodes are of.
        over: the places that were averaged over.
        metric: ``"accuracy"`` or ``"mse"``.
        best: whether it has the best mean of its column.
        p_best: of the paired test against the best, corrected over the column; None for the best, where episodes differ and
            where other values were averaged over.
        against: the difference to the baseline row; None for the baseline and as above.
        p_against: its p-value, corrected over the column.
    """

    interval: Interval
    spread: Spread
    strata: Mapping[str, np.ndarray]
    over: frozenset[Place]
    metric: str
    best: bool = False
    p_best: float | None = None
    against: PairedDifference | None = None
    p_against: float | None = None

    @property
    def alike(self) -> bool:
        """Whether it does not differ significantly from the best."""
        return self.p_best is not None and self.p_best > 1 - self.interval.level


@dataclass(frozen=True)
class Pivot:
    """A table of cells.

    Attributes:
        question: that it answers.
        rows, columns: the places along both sides, in order.
        entries: the cells that there are, by row and column.
        older: runs that were left out for a newer one of the same setting and seed.
    """

    question: Question
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    entries: Mapping[tuple[Place, Place], Entry]
    older: int

    def column(self, place: Place) -> dict[Place, Entry]:
        """The cells of a column by row."""
        return {row: self.entries[row, place] for row in self.rows if (row, place) in self.entries}


def make_pivot(runs: Sequence[Run], question: Question) -> Pivot:
    """Pivot the runs.

    Raises:
        UserError: a key is unknown, runs of a cell differ in more than their seed, a column mixes metrics, or no row is
            the baseline.
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
    judged = {}
    for column in pivot.columns:
        for row, entry in _judged(pivot.column(column), baseline, column).items():
            judged[row, column] = entry
    return replace(pivot, entries=judged)


def newest(runs: Iterable[Run]) -> list[Run]:
    """Of several runs of one setting and seed the one that was created last."""
    found: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = run.setting_key, run.seed
        if key not in found or str(run.record.get("created")) >= str(found[key].record.get("created")):
            found[key] = run
    return list(found.values())


def _sorted(places: Iterable[Place]) -> tuple[Place, ...]:
    """By each key's levels in turn."""
    unique = list(dict.fromkeys(places))
    orders = [{value: number for number, value in enumerate(levels(values))} for values in zip(*unique, strict=True)]
    return tuple(sorted(unique, key=lambda place: [order[value] for order, value in zip(orders, place, strict=True)]))


def _entry(runs: Sequence[Run], question: Question, place: tuple[Place, Place]) -> Entry:
    settings: dict[str, list[Row]] = {}
    for row in group_rows(runs):
        settings.setdefault(row.first.setting_key, []).append(row)
    if len(settings) > 1:
        _refuse_mixtures(runs, question, place)
    metrics = {run.metric for run in runs}
    if len(metrics) > 1:
        raise UserError(
            f"{_where(question, place)} holds accuracies and errors; add a key to --rows or --columns that tells them apart"
        )
    by_data: dict[str, list[np.ndarray]] = {}
    for rows in settings.values():
        members = [run for row in rows for run in row.runs]  # rows of one setting differ in their names alone
        by_data.setdefault(members[0].episodes_key, []).append(np.mean([run.scores for run in members], axis=0))
    strata = {key: np.mean(parts, axis=0) for key, parts in sorted(by_data.items())}
    interval = stratified_interval(list(strata.values()), runs[0].test["level"])
    averaged = [key for key in question.over if key not in INCIDENTAL]
    over = frozenset(tuple(fact(run, key) for key in averaged) for run in runs)
    return Entry(interval, _spread(runs, len(settings)), strata, over, metrics.pop())


def _spread(runs: Sequence[Run], settings: int) -> Spread:
    """Over the seeds that all settings of the cell were run with."""
    seeds: dict[int, list[float]] = {}
    for run in runs:
        seeds.setdefault(run.seed, []).append(run.test["mean"])
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
    told, keys = pivot.question.baseline, pivot.question.rows
    if told is None:
        return None
    strange = [key for key in told if key not in keys]
    if strange:
        raise UserError(f"--baseline names {strange[0]}, which is no key of --rows; these are {', '.join(keys)}")
    found = [
        row
        for row in pivot.rows
        if all(key not in told or fits(value, told[key]) for key, value in zip(keys, row, strict=True))
    ]
    if len(found) != 1:
        rows = "; ".join(
            ", ".join(f"{k}={show(v)}" for k, v in zip(keys, row, strict=True)) for row in (found or pivot.rows)[:_NAMED]
        )
        wanted = ", ".join(f"{key}={value}" for key, value in told.items())
        raise UserError(f"--baseline {wanted} fits {len(found)} rows; name one, such as {rows}")
    return found[0]


def _judged(column: Mapping[Place, Entry], baseline: Place | None, place: Place) -> dict[Place, Entry]:
    """The cells of a column compared with its best one and with the baseline."""
    metrics = {entry.metric for entry in column.values()}
    if len(metrics) > 1:
        name = ", ".join(titled("", value) for value in place) or "the table"
        raise UserError(f"the column {name} mixes accuracies and errors; add setting or dataset to --columns")
    higher = "accuracy" in metrics
    sound = {row: entry for row, entry in column.items() if np.isfinite(entry.interval.mean)}
    best = (max if higher else min)(sound, key=lambda row: sound[row].interval.mean, default=None)
    to_best, to_base = _compared(column, best), _compared(column, baseline)
    p_best, p_base = _corrected(to_best), _corrected(to_base)
    return {
        row: replace(entry, best=row == best, p_best=p_best.get(row), against=to_base.get(row), p_against=p_base.get(row))
        for row, entry in column.items()
    }


def _compared(column: Mapping[Place, Entry], with_row: Place | None) -> dict[Place, PairedDifference]:
    """Every cell minus that of one row, where they are of the same episodes and averaged over the same values."""
    if with_row is None or with_row not in column:
        return {}
    base = column[with_row]
    found = {}
    for row, entry in column.items():
        if row != with_row and entry.strata.keys() == base.strata.keys() and entry.over == base.over:
            scores = [[list(each.strata[key]) for key in sorted(base.strata)] for each in (entry, base)]
            found[row] = stratified_difference(scores[0], scores[1], base.interval.level)
    return found


def _corrected(differences: Mapping[Place, PairedDifference]) -> dict[Place, float]:
    tested = {row: found.p_value for row, found in differences.items() if found.p_value is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def default_question(
    runs: Sequence[Run], rows: Sequence[str] = (), columns: Sequence[str] = (), over: Sequence[str] = ()
) -> Question | None:
    """What runs are compared by where nobody says: all keys in which they differ, those of the data, else the last, as columns.

    Args:
        runs: at least one.
        rows, columns, over: keys that were named. Columns alone leave the other keys for the rows, rows alone do without
        columns.
    """
    named = checked_keys(runs, (*rows, *columns, *over))
    rest = [key for key in (varied(runs) if named else _enough(runs)) if key not in named]
    if rows:
        return Question(tuple(rows), tuple(columns), tuple(over))
    if columns:
        return Question(tuple(rest) or ("name",), tuple(columns), tuple(over))
    if not rest:
        return None
    data = [key for key in rest if is_data(key)]
    own = [key for key in rest if key not in data]
    if own and data:
        return Question(tuple(own), tuple(data), tuple(over))
    wide = len(rest) > 1 and _is_grid(runs, rest)
    return Question(tuple(rest[:-1] if wide else rest), (rest[-1],) if wide else (), tuple(over))


def _enough(runs: Sequence[Run]) -> tuple[str, ...]:
    """The overridden keys, and as many more as tell all settings apart, such as a default that changed between two runs."""
    keys = varied(runs)
    cells = {run.setting_key: tuple(fact(run, key) for key in keys) for run in runs}
    if not keys or len(set(cells.values())) == len(cells):
        return keys
    for key in differing(runs):
        finer = {run.setting_key: (*cells[run.setting_key], fact(run, key)) for run in runs}
        if len(set(finer.values())) > len(set(cells.values())):
            keys, cells = (*keys, key), finer
    return keys


def _is_grid(runs: Sequence[Run], keys: Sequence[str]) -> bool:
    """Whether the last key has few values, and most of them were run with most combinations of the others."""
    cells = {tuple(fact(run, key) for key in keys) for run in runs}
    rows, columns = {cell[:-1] for cell in cells}, {cell[-1] for cell in cells}
    return len(columns) <= _WIDEST and len(cells) >= _FULL * len(rows) * len(columns)


def is_data(key: str) -> bool:
    """Whether a key is of what is learned from, not of what learns."""
    return key.split(".")[0].split("/")[0] in _DATA


def coverage(pivot: Pivot) -> tuple[list[int], list[int]]:
    """How many seeds and episodes cells have, each number once, ascending."""
    entries = pivot.entries.values()
    return sorted(Counter(entry.spread.n for entry in entries)), sorted(Counter(entry.interval.n for entry in entries))
