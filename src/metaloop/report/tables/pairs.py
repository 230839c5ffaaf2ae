"""Paired differences between settings that were tested on the same episodes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite

from metaloop.metrics.multiple_comparisons import holm, pairs_of
from metaloop.metrics.paired import PairedDifference, stratified_difference, with_seeds
from metaloop.report import formats
from metaloop.report.tables.results import Cell, Table, Value
from metaloop.report.tables.rows import Row

# Beyond this many settings on the same episodes, all pairs no longer make a readable table:
ALL_PAIRS_UP_TO = 10


@dataclass(frozen=True)
class Pair:
    """Two settings on the same episodes, each averaged over its seeds.

    Attributes:
        first: the better one.
        second: the other.
        difference: ``first - second``.
        corrected: p-value of the difference after Holm's correction over all pairs on these episodes, whether shown or not.
    """

    first: Row
    second: Row
    difference: PairedDifference
    corrected: float | None = None


def compare_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Compare all settings that were tested on the same episodes.

    If more than ``ALL_PAIRS_UP_TO`` settings share their episodes, each is compared with the best of them only.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.first.episodes_key, []).append(row)
    pairs: list[Pair] = []
    for members in groups.values():
        members.sort(key=lambda row: -row.metric.sign * row.interval.mean)
        members.sort(key=lambda row: not isfinite(row.interval.mean))  # settings that diverged come last, nan included
        many = len(members) > ALL_PAIRS_UP_TO
        chosen = [(members[0], other) for other in members[1:]] if many else list(combinations(members, 2))
        compared = [Pair(first, second, _difference(first, second)) for first, second in chosen]
        pairs += _corrected(compared, pairs_of(len(members)))
    return pairs


def _difference(first: Row, second: Row) -> PairedDifference:
    difference = stratified_difference([first.scores.tolist()], [second.scores.tolist()], first.first.test.level)
    return with_seeds(difference, first.spread, second.spread)


def _corrected(pairs: Sequence[Pair], family: int) -> list[Pair]:
    tested = [number for number, pair in enumerate(pairs) if pair.difference.p_value is not None]
    values = dict(zip(tested, holm([pairs[number].difference.p_value or 0.0 for number in tested], family), strict=True))
    return [replace(pair, corrected=values.get(number)) for number, pair in enumerate(pairs)]


def pairs_table(pairs: Sequence[Pair]) -> Table:
    """Table of the pairs for display."""
    headers = ("first", "second", "score", "first − second", "p", "p, corrected", "episodes")
    cells = []
    for pair in pairs:
        gap, metric = pair.difference.interval, pair.first.metric
        unit = f" ({metric.difference_unit})" if metric.difference_unit else ""
        names = [pair.first.label, pair.second.label, f"{metric.title}{unit}"]
        cells.append(
            (
                *(Cell(name, name) for name in names),
                Cell(formats.difference(gap, metric), gap.mean),
                Cell(formats.p_value(pair.difference.p_value), pair.difference.p_value),
                Cell(formats.p_value(pair.corrected), pair.corrected),
                Cell(str(gap.n), gap.n),
            )
        )
    return Table(headers, tuple(cells), (*[False] * 3, *[True] * 4))


def pairs_csv_rows(pairs: Sequence[Pair]) -> tuple[list[str], list[list[Value]]]:
    """Header and CSV rows of the pairs, in full precision, scores as stored (accuracies as fractions)."""
    headers = ["first", "second", "metric", "difference", "half_width", "level", "p_value", "p_corrected", "episodes"]
    rows: list[list[Value]] = []
    for pair in pairs:
        gap = pair.difference.interval
        numbers = [gap.mean, gap.half_width, gap.level, pair.difference.p_value, pair.corrected, gap.n]
        rows.append([pair.first.label, pair.second.label, pair.first.metric.name, *numbers])
    return headers, rows
