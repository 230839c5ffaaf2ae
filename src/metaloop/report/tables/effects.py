"""What each key of an ablation is worth: main effects and interactions over the matching runs."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metaloop.metrics.interval import Interval, stratified_interval
from metaloop.metrics.multiple_comparisons import holm
from metaloop.metrics.paired import stratified_difference
from metaloop.problems.metric import Metric
from metaloop.records.runs import Run
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.tables.facts import Fact, fact, levels, show
from metaloop.report.tables.pivot import newest
from metaloop.report.tables.results import Cell, Table

Strata = dict[str, Array]  # scores by ascending episode number, by what the episodes are of
Cells = dict[tuple[Fact, ...], Strata]


@dataclass(frozen=True)
class Level:
    """One value of a key.

    Attributes:
        value: of the key.
        interval: of the mean score over the matching settings.
        difference: to the key's first value, paired over episodes; None for the first.
        p_value: of the difference, corrected over the key's values.
    """

    value: Fact
    interval: Interval
    difference: Interval | None
    p_value: float | None


@dataclass(frozen=True)
class MainEffect:
    """A key's values compared in the settings of all other keys in which every one of them was run.

    Attributes:
        key: that varies.
        levels: its values, in order.
        settings: how many settings of the other keys were averaged.
        metric: of the scores.
    """

    key: str
    levels: tuple[Level, ...]
    settings: int
    metric: Metric


@dataclass(frozen=True)
class Interaction:
    """Two keys together.

    Attributes:
        keys: the two.
        rows, columns: values of the first and the second.
        means: (rows, columns) mean scores over the matching settings; NaN where nothing was run.
        contrast: of the corner values: how much more the second key changes at the last value of the first than at its
            first value;
            None where a corner is missing.
        settings: how many settings of the other keys were averaged.
        metric: of the scores.
    """

    keys: tuple[str, str]
    rows: tuple[Fact, ...]
    columns: tuple[Fact, ...]
    means: Array
    contrast: Interval | None
    settings: int
    metric: Metric


def scores_by(runs: Sequence[Run], keys: Sequence[str]) -> Cells:
    """The scores at each combination of the keys' values; seeds are averaged, and what else differs too."""
    found: dict[tuple[Fact, ...], dict[str, list[Array]]] = {}
    for run in newest(runs):
        cell = found.setdefault(tuple(fact(run, key) for key in keys), {})
        cell.setdefault(run.episodes_key, []).append(run.scores)
    return {place: {key: np.mean(parts, axis=0) for key, parts in sorted(cell.items())} for place, cell in found.items()}


def main_effects(runs: Sequence[Run], keys: Sequence[str]) -> list[MainEffect]:
    """Of each key that has two values or more in some setting of the others; the runs have one metric."""
    cells, found = scores_by(runs, keys), []
    for number, key in enumerate(keys):
        values = levels(place[number] for place in cells)
        parts = [{_without(place, number): cells[place] for place in cells if place[number] == value} for value in values]
        shared = [rest for rest in parts[0] if all(_same_episodes(rest, part, parts[0]) for part in parts)]
        if shared and len(values) > 1:
            scores = [_averaged([part[rest] for rest in shared]) for part in parts]
            found.append(MainEffect(key, _levels(values, scores, runs[0].test.level), len(shared), runs[0].metric))
    return found


def _without(place: tuple[Fact, ...], *numbers: int) -> tuple[Fact, ...]:
    return tuple(value for number, value in enumerate(place) if number not in numbers)


def _same_episodes(
    rest: tuple[Fact, ...], part: Mapping[tuple[Fact, ...], Strata], first: Mapping[tuple[Fact, ...], Strata]
) -> bool:
    """Whether a setting was run here too; the episodes may differ, as where the key is the data set."""
    return rest in part and len(part[rest]) == len(first[rest])


def _averaged(cells: Sequence[Strata]) -> Strata:
    """Several settings as one: an episode's score is its mean over those that met it."""
    found: dict[str, list[Array]] = {}
    for cell in cells:
        for key, scores in cell.items():
            found.setdefault(key, []).append(scores)
    return {key: np.mean(parts, axis=0) for key, parts in sorted(found.items())}


def _levels(values: Sequence[Fact], scores: Sequence[Strata], level: float) -> tuple[Level, ...]:
    intervals = [stratified_interval(_lists(each), level) for each in scores]
    differences = {
        number: stratified_difference(_lists(each), _lists(scores[0]), level)
        for number, each in enumerate(scores)
        if number and each.keys() == scores[0].keys()
    }
    tested = {number: found.p_value for number, found in differences.items() if found.p_value is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(
        Level(value, interval, differences[number].interval if number in differences else None, corrected.get(number))
        for number, (value, interval) in enumerate(zip(values, intervals, strict=True))
    )


def _lists(strata: Strata) -> list[list[float]]:
    return [scores.tolist() for scores in strata.values()]


def interactions(runs: Sequence[Run], keys: Sequence[str]) -> list[Interaction]:
    """Of each two keys that were varied together; the runs have one metric."""
    cells, found = scores_by(runs, keys), []
    for first, second in itertools.combinations(range(len(keys)), 2):
        values = [levels(place[number] for place in cells) for number in (first, second)]
        grid: dict[tuple[Fact, Fact], dict[tuple[Fact, ...], Strata]] = {}
        for place, strata in cells.items():
            grid.setdefault((place[first], place[second]), {})[_without(place, first, second)] = strata
        shared = [rest for rest in next(iter(grid.values())) if all(rest in part for part in grid.values())]
        if len(grid) < len(values[0]) + len(values[1]) or not shared:  # fewer than that are points along two lines, no grid
            continue
        averaged = {place: _averaged([part[rest] for rest in shared]) for place, part in grid.items()}
        means = np.array([[_mean(averaged.get((row, column))) for column in values[1]] for row in values[0]])
        corners = [
            averaged.get((row, column)) for row in (values[0][0], values[0][-1]) for column in (values[1][0], values[1][-1])
        ]
        contrast = _contrast(corners, runs[0].test.level)
        pair = (keys[first], keys[second])
        found.append(Interaction(pair, tuple(values[0]), tuple(values[1]), means, contrast, len(shared), runs[0].metric))
    return found


def _mean(strata: Strata | None) -> float:
    return float("nan") if strata is None else float(np.mean([scores.mean() for scores in strata.values()]))


def _contrast(corners: Sequence[Strata | None], level: float) -> Interval | None:
    a, b, c, d = corners
    if a is None or b is None or c is None or d is None or not a.keys() == b.keys() == c.keys() == d.keys():
        return None
    with np.errstate(invalid="ignore"):  # inf - inf of runs that diverged is nan, which the interval says
        return stratified_interval([(d[key] - c[key] - b[key] + a[key]).tolist() for key in a], level)


def effects_table(effects: Sequence[MainEffect]) -> Table:
    """Every value of every key with its mean, the difference to the key's first value, and how many settings were averaged."""
    rows = []
    for effect in effects:
        for each in effect.levels:
            gap = each.difference
            rows.append(
                (
                    Cell(effect.key, effect.key),
                    Cell(show(each.value), show(each.value)),
                    Cell(effect.metric.interval(each.interval.mean, each.interval.half_width), each.interval.mean),
                    Cell(formats.difference(gap, effect.metric), None if gap is None else gap.mean),
                    Cell(formats.p_value(each.p_value), each.p_value),
                    Cell(str(effect.settings), effect.settings),
                )
            )
    heads = ("key", "value", effects[0].metric.heading, "against the first value", "p, corrected", "settings")
    return Table(heads, tuple(rows), (False, False, True, True, True, True))
