"""Which runs met the same episodes, and how they differ on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import isfinite

from metaloop.metrics.multiple_comparisons import holm
from metaloop.metrics.paired import PairedDifference, stratified_difference
from metaloop.records.runs import Run
from metaloop.report import formats
from metaloop.report.tables.results import Cell, Table, Value
from metaloop.report.tables.rows import Row

# Beyond this many runs on the same episodes, all pairs no longer make a readable table:
ALL_PAIRS_UP_TO = 10


@dataclass(frozen=True)
class Pair:
    """Two runs on the same episodes; ``difference`` is ``first - second``, the first being the better one.

    ``corrected`` is its p-value after Holm's correction over all pairs on these episodes.
    """

    first: Run
    second: Run
    first_label: str
    second_label: str
    difference: PairedDifference
    corrected: float | None = None


def compare_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Paired differences between all runs that were tested on the same episodes.

    Where more than ``ALL_PAIRS_UP_TO`` runs share their episodes, each is compared with the best of them only.
    """
    groups: dict[str, list[tuple[Run, str]]] = {}
    for row in rows:
        for run in row.runs:
            label = row.label if len(row.runs) == 1 else f"{row.label}, seed {run.seed}"
            groups.setdefault(run.episodes_key, []).append((run, label))
    pairs: list[Pair] = []
    for members in groups.values():
        best_first = members[0][0].metric != "mse"
        members.sort(key=lambda member: -member[0].test["mean"] if best_first else member[0].test["mean"])
        members.sort(key=lambda member: not isfinite(member[0].test["mean"]))  # what diverged comes last, nan too
        many = len(members) > ALL_PAIRS_UP_TO
        chosen = [(members[0], other) for other in members[1:]] if many else combinations(members, 2)
        pairs += _corrected(
            [
                Pair(run, other, label, other_label, stratified_difference([run.scores], [other.scores], run.test["level"]))
                for (run, label), (other, other_label) in chosen
            ]
        )
    return pairs


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    tested = [number for number, pair in enumerate(pairs) if pair.difference.p_value is not None]
    values = dict(zip(tested, holm([pairs[number].difference.p_value or 0.0 for number in tested]), strict=True))
    return [replace(pair, corrected=values.get(number)) for number, pair in enumerate(pairs)]


def pairs_table(pairs: Sequence[Pair]) -> Table:
    """The pairs as people read them."""
    headers = ("first", "second", "unit", "first − second", "p", "p, corrected", "episodes")
    cells = []
    for pair in pairs:
        interval, metric = pair.difference.interval, pair.first.metric
        text = formats.difference(interval.mean, metric)
        if interval.half_width is not None:
            text += f" ± {formats.number(interval.half_width, metric)}"
        cells.append(
            (
                Cell(pair.first_label, pair.first_label),
                Cell(pair.second_label, pair.second_label),
                Cell(*["points" if metric != "mse" else "squared error"] * 2),
                Cell(text, interval.mean),
                Cell(formats.p_value(pair.difference.p_value), pair.difference.p_value),
                Cell(formats.p_value(pair.corrected), pair.corrected),
                Cell(str(interval.n), interval.n),
            )
        )
    return Table(headers, tuple(cells), (False, False, False, True, True, True, True))


def pairs_csv_rows(pairs: Sequence[Pair]) -> tuple[list[str], list[list[Value]]]:
    """Header and rows of the pairs in full precision; accuracies in [0, 1]."""
    headers = ["first", "second", "metric", "difference", "half_width", "level", "p_value", "p_corrected", "episodes"]
    rows: list[list[Value]] = []
    for pair in pairs:
        interval = pair.difference.interval
        numbers = [interval.mean, interval.half_width, interval.level, pair.difference.p_value, pair.corrected, interval.n]
        rows.append([pair.first_label, pair.second_label, pair.first.metric, *numbers])
    return headers, rows
