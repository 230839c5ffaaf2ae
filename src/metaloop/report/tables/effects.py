"""Main effects and interactions of an ablation's keys, over the matching runs."""

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

Strata = dict[str, Array]  # scores by ascending episode number, by the key of their episodes
Cells = dict[tuple[Fact, ...], Strata]


@dataclass(frozen=True)
class Level:
    """One value of a key.

    Attributes:
        value: the value.
        interval: mean score over the matching settings, and its interval.
        difference: difference to the key's first value, paired over episodes; None for the first.
        p_value: p-value of the difference, corrected over the key's values.
    """

    value: Fact
    interval: Interval
    difference: Interval | None
    p_value: float | None


@dataclass(frozen=True)
class MainEffect:
    """Comparison of a key's values in those settings of all other keys that were run with every value.

    Attributes:
        key: the key that varies.
        levels: its values, in order.
        settings: number of settings of the other keys that were averaged.
        metric: metric of the scores.
    """

    key: str
    levels: tuple[Level, ...]
    settings: int
    metric: Metric


@dataclass(frozen=True)
class Interaction:
    """Scores at the combinations of two keys' values.

    Attributes:
        keys: the two keys.
        rows, columns: values of the first and of the second key.
        means: (rows, columns) mean scores over the matching settings; NaN for combinations that were not run.
        contrast: effect of the second key (last value minus first) at the last value of the first key, minus the same effect
            at its first value; None if one of these four combinations is missing.
        settings: number of settings of the other keys that were averaged.
        metric: metric of the scores.
    """

    keys: tuple[str, str]
    rows: tuple[Fact, ...]
    columns: tuple[Fact, ...]
    means: Array
    contrast: Interval | None
    settings: int
    metric: Metric


def scores_by(runs: Sequence[Run], keys: Sequence[str]) -> Cells:
    """Scores at each combination of the keys' values, averaged over seeds and over all other keys that differ."""
    groups: dict[tuple[Fact, ...], dict[str, list[Array]]] = {}
    for run in newest(runs):
        cell = groups.setdefault(tuple(fact(run, key) for key in keys), {})
        cell.setdefault(run.episodes_key, []).append(run.scores)
    return {place: {key: np.mean(parts, axis=0) for key, parts in sorted(cell.items())} for place, cell in groups.items()}


def main_effects(runs: Sequence[Run], keys: Sequence[str]) -> list[MainEffect]:
    """Main effect of each key with two values or more that share settings of the other keys; the runs have one metric."""
    cells, effects = scores_by(runs, keys), []
    for number, key in enumerate(keys):
        values = levels(place[number] for place in cells)
        parts = [{_without(place, number): cells[place] for place in cells if place[number] == value} for value in values]
        shared = [rest for rest in parts[0] if all(_same_episodes(rest, part, parts[0]) for part in parts)]
        if shared and len(values) > 1:
            scores = [_averaged([part[rest] for rest in shared]) for part in parts]
            effects.append(MainEffect(key, _levels(values, scores, runs[0].test.level), len(shared), runs[0].metric))
    return effects


def _without(place: tuple[Fact, ...], *numbers: int) -> tuple[Fact, ...]:
    return tuple(value for number, value in enumerate(place) if number not in numbers)


def _same_episodes(
    rest: tuple[Fact, ...], part: Mapping[tuple[Fact, ...], Strata], first: Mapping[tuple[Fact, ...], Strata]
) -> bool:
    """Whether a setting was run here too, on as many kinds of episodes. These may differ, as the key may be the data set."""
    return rest in part and len(part[rest]) == len(first[rest])


def _averaged(cells: Sequence[Strata]) -> Strata:
    """Average several settings: an episode's score is its mean over the settings that were tested on it."""
    groups: dict[str, list[Array]] = {}
    for cell in cells:
        for key, scores in cell.items():
            groups.setdefault(key, []).append(scores)
    return {key: np.mean(parts, axis=0) for key, parts in sorted(groups.items())}


def _levels(values: Sequence[Fact], scores: Sequence[Strata], level: float) -> tuple[Level, ...]:
    intervals = [stratified_interval(_lists(each), level) for each in scores]
    differences = {
        number: stratified_difference(_lists(each), _lists(scores[0]), level)
        for number, each in enumerate(scores)
        if number and each.keys() == scores[0].keys()
    }
    tested = {number: difference.p_value for number, difference in differences.items() if difference.p_value is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(
        Level(value, interval, differences[number].interval if number in differences else None, corrected.get(number))
        for number, (value, interval) in enumerate(zip(values, intervals, strict=True))
    )


def _lists(strata: Strata) -> list[list[float]]:
    return [scores.tolist() for scores in strata.values()]


def interactions(runs: Sequence[Run], keys: Sequence[str]) -> list[Interaction]:
    """Interaction of each two keys that were varied together; the runs have one metric."""
    cells, results = scores_by(runs, keys), []
    for first, second in itertools.combinations(range(len(keys)), 2):
        values = [levels(place[number] for place in cells) for number in (first, second)]
        grid: dict[tuple[Fact, Fact], dict[tuple[Fact, ...], Strata]] = {}
        for place, strata in cells.items():
            grid.setdefault((place[first], place[second]), {})[_without(place, first, second)] = strata
        shared = [rest for rest in next(iter(grid.values())) if all(rest in part for part in grid.values())]
        if len(grid) < len(values[0]) + len(values[1]) or not shared:  # fewer cells lie along two lines and form no grid
            continue
        averaged = {place: _averaged([part[rest] for rest in shared]) for place, part in grid.items()}
        means = np.array([[_mean(averaged.get((row, column))) for column in values[1]] for row in values[0]])
        corners = [
            averaged.get((row, column)) for row in (values[0][0], values[0][-1]) for column in (values[1][0], values[1][-1])
        ]
        contrast = _contrast(corners, runs[0].test.level)
        pair = (keys[first], keys[second])
        results.append(Interaction(pair, tuple(values[0]), tuple(values[1]), means, contrast, len(shared), runs[0].metric))
    return results


def _mean(strata: Strata | None) -> float:
    return float("nan") if strata is None else float(np.mean([scores.mean() for scores in strata.values()]))


def _contrast(corners: Sequence[Strata | None], level: float) -> Interval | None:
    a, b, c, d = corners
    if a is None or b is None or c is None or d is None or not a.keys() == b.keys() == c.keys() == d.keys():
        return None
    with np.errstate(invalid="ignore"):  # inf - inf of runs that diverged is nan, and so is the interval
        return stratified_interval([(d[key] - c[key] - b[key] + a[key]).tolist() for key in a], level)


def effects_table(groups: Mapping[str, Sequence[MainEffect]]) -> Table:
    """Table of all values of all keys: mean, difference to the key's first value, and number of averaged settings.

    Args:
        groups: main effects by data set and setting of episodes, all of one metric.
    """
    rows = []
    for title, effect in [(title, effect) for title, effects in groups.items() for effect in effects]:
        for each in effect.levels:
            gap = each.difference
            rows.append(
                (
                    Cell(title, title),
                    Cell(effect.key, effect.key),
                    Cell(show(each.value), show(each.value)),
                    Cell(effect.metric.interval(each.interval.mean, each.interval.half_width), each.interval.mean),
                    Cell(formats.difference(gap, effect.metric), None if gap is None else gap.mean),
                    Cell(formats.p_value(each.p_value), each.p_value),
                    Cell(str(effect.settings), effect.settings),
                )
            )
    heading = next(iter(groups.values()))[0].metric.heading
    heads = ("episodes of", "key", "value", heading, "against the first value", "p, corrected", "settings")
    return Table(heads, tuple(rows), (False, False, False, True, True, True, True))
