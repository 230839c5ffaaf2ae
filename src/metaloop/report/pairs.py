"""Which runs met the same episodes, and how they differ on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from metaloop.metrics.paired import PairedDifference, paired_difference
from metaloop.report import formats
from metaloop.report.collect import Run
from metaloop.report.rows import Row
from metaloop.report.tables import Cell, Table, Value

# Beyond this many runs on the same episodes, all pairs no longer make a readable table:
ALL_PAIRS_UP_TO = 10


@dataclass(frozen=True)
class Pair:
    """Two runs on the same episodes; ``difference`` is ``first - second``, the first being the better one."""

    first: Run
    second: Run
    first_label: str
    second_label: str
    difference: PairedDifference


def compare_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Paired differences between all runs that were tested on the same episodes.

    Where more than ``ALL_PAIRS_UP_TO`` runs share their episodes, each is compared with the best of them only.
    """
    groups: dict[str, list[tuple[Run, str]]] = {}
    for row in rows:
        for run in row.runs:
            label = row.label if len(row.runs) == 1 else f"{row.label}, seed {run.seed}"
            groups.setdefault(_episodes_key(run), []).append((run, label))
    pairs: list[Pair] = []
    for members in groups.values():
        best_first = members[0][0].metric == "accuracy"
        members.sort(key=lambda member: member[0].test["mean"], reverse=best_first)
        many = len(members) > ALL_PAIRS_UP_TO
        chosen = [(members[0], other) for other in members[1:]] if many else combinations(members, 2)
        pairs += [
            Pair(run, other, label, other_label, paired_difference(run.episodes, other.episodes, run.test["level"]))
            for (run, label), (other, other_label) in chosen
        ]
    return pairs


def pairs_table(pairs: Sequence[Pair]) -> Table:
    """The pairs as people read them."""
    headers = ("first", "second", "unit", "first − second", "p", "episodes")
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
                Cell(*["points" if metric == "accuracy" else "squared error"] * 2),
                Cell(text, interval.mean),
                Cell(formats.p_value(pair.difference.p_value), pair.difference.p_value),
                Cell(str(interval.n), interval.n),
            )
        )
    return Table(headers, tuple(cells), (False, False, False, True, True, True))


def pairs_csv_rows(pairs: Sequence[Pair]) -> tuple[list[str], list[list[Value]]]:
    """Header and rows of the pairs in full precision; accuracies in [0, 1]."""
    headers = ["first", "second", "metric", "difference", "half_width", "level", "p_value", "episodes"]
    rows: list[list[Value]] = []
    for pair in pairs:
        interval = pair.difference.interval
        numbers = [interval.mean, interval.half_width, interval.level, pair.difference.p_value, interval.n]
        rows.append([pair.first_label, pair.second_label, pair.first.metric, *numbers])
    return headers, rows


def _episodes_key(run: Run) -> str:
    """Equal where two runs' episodes of a number are the same: same data, split, size and stream of numbers."""
    test, record = run.test, run.record
    dataset = record["config"].get("dataset")
    if isinstance(dataset, Mapping):  # where a data set lies does not change its episodes
        dataset = {key: value for key, value in dataset.items() if not key.endswith("_dir")}
    data = [record["choices"].get("dataset"), dataset, test["split"], run.metric, test["level"]]
    size = [test["ways"], test["shots"], test["queries"]]
    return json.dumps([data, size, test.get("seed"), sorted(run.episodes)], sort_keys=True, default=str)
