"""Sections of a page that compare settings: effects, interactions, ranks, cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaloop.metrics.multiple_comparisons import rank_methods
from metaloop.records.runs import Run
from metaloop.report import formats
from metaloop.report.figures.effect_plots import (
    cost_figure,
    cost_front,
    heat_map,
    interaction_figure,
    main_effect_figure,
    rank_figure,
)
from metaloop.report.figures.pictures import Picture, picture
from metaloop.report.tables.effects import Interaction, effects_table, interactions, main_effects, scores_by
from metaloop.report.tables.facts import titled, varied
from metaloop.report.tables.question import is_data
from metaloop.report.tables.results import Cell, Table
from metaloop.report.tables.rows import Row

_PAIRS = 6  # most pairs of keys whose interaction is drawn
_METHODS, _DATA_SETS = 20, 3  # for ranks: the most methods and the fewest data sets
_LINES, _FIELDS = 8, 400  # most lines of an interaction's figure, and most fields of a heat map


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: used for its files and its anchor on the page.
        title: heading.
        table: its table, or None.
        pictures: (file name, picture) of each.
        note: explanation for the reader.
    """

    name: str
    title: str
    table: Table | None
    pictures: Sequence[tuple[str, Picture]]
    note: str


def sections(rows: Sequence[Row]) -> list[Section]:
    """Make the sections for rows of one metric; none if the rows do not differ in any override."""
    runs = [run for row in rows for run in row.runs]
    keys = varied(runs)
    made = [_effects(runs, keys), _interactions(runs, keys), _ranks(runs, keys), _cost(rows)]
    return [section for section in made if section is not None]


def _named(pictures: Sequence[tuple[str, Picture | None]]) -> list[tuple[str, Picture]]:
    return [(name, drawn) for name, drawn in pictures if drawn is not None]


def _effects(runs: Sequence[Run], keys: Sequence[str]) -> Section | None:
    """A picture for each data set and setting of episodes, as scores of different ones belong on no common axis."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(f"{run.record.choices.get('dataset', formats.NONE)}, {run.test.setting}", []).append(run)
    keys = keys if len(groups) == 1 else [key for key in keys if not is_data(key)]
    found = {title: effects for title, members in groups.items() if (effects := main_effects(members, keys))}
    if not found:
        return None
    pictures: list[tuple[str, Picture | None]] = []
    for number, (title, effects) in enumerate(found.items(), 1):
        drawn = picture(
            lambda theme, e=effects, t=title: main_effect_figure(e, theme, t if len(found) > 1 else ""),  # type: ignore[misc]
            f"mean score at each value of each key on {title}",
        )
        pictures.append(("main_effects" if len(found) == 1 else f"main_effects_{number}", drawn))
    note = (
        "A key's values are compared over those settings of all other keys in which each value was run; these settings "
        "are averaged. Intervals are over episodes, differences are paired over the same episodes, and p-values are "
        "corrected over the key's values (Holm). They hold for these trained runs, not for other training seeds."
    )
    return Section("effects", "Main effects", effects_table(found), _named(pictures), note)


def _interactions(runs: Sequence[Run], keys: Sequence[str]) -> Section | None:
    results = interactions(runs, keys)
    if not results:
        return None
    pictures: list[tuple[str, Picture | None]] = []
    for each in results[:_PAIRS]:
        name, both = "_".join(key.replace("/", ".") for key in each.keys), " and ".join(each.keys)
        few = min(each.means.shape) <= _LINES
        if (len(keys) == 2 or not few) and each.means.size <= _FIELDS:
            pictures.append((f"heat_{name}", picture(lambda theme, e=each: heat_map(e, theme), f"mean score by {both}")))  # type: ignore[misc]
        if few:
            drawn = picture(lambda theme, e=each: interaction_figure(e, theme), f"interaction of {both}")  # type: ignore[misc]
            pictures.append((f"interaction_{name}", drawn))
    note = (
        "Parallel lines mean that the effects of the two keys add up. The contrast is the effect of changing the second "
        "key from its first to its last value at the last value of the first key, minus the same effect at its first "
        "value, with its interval over episodes."
    )
    return Section("interactions", "Interactions", _contrasts(results), _named(pictures), note)


def _contrasts(results: Sequence[Interaction]) -> Table:
    rows = []
    for each in results:
        contrast, text = each.contrast, formats.difference(each.contrast, each.metric)
        first, second = (
            f"{titled(key, v[0])} → {titled(key, v[-1])}" for key, v in zip(each.keys, (each.rows, each.columns), strict=True)
        )
        cells = [Cell(text, text) for text in (*each.keys, first, second)]
        rows.append((*cells, Cell(text, contrast.mean if contrast else None), Cell(str(each.settings), each.settings)))
    heads = ("first key", "second key", "from – to", "from – to", "contrast", "settings")
    return Table(heads, tuple(rows), (False, False, False, False, True, True))


def _ranks(runs: Sequence[Run], keys: Sequence[str]) -> Section | None:
    """Ranks of the methods that were tested on all of several data sets or settings of episodes."""
    method_keys = [key for key in keys if not is_data(key)]
    cells = scores_by(runs, method_keys)
    data = list(dict.fromkeys(block for cell in cells.values() for block in cell))
    methods = [place for place, cell in cells.items() if len(cell) == len(data)]
    if not method_keys or len(data) < _DATA_SETS or not 2 <= len(methods) <= _METHODS:
        return None
    table = [[float(np.mean(cells[method][block])) for method in methods] for block in data]
    if not np.isfinite(table).all():
        return None
    ranking = rank_methods(table, runs[0].metric.higher_is_better, runs[0].test.level)
    names = [", ".join(titled(key, value) for key, value in zip(method_keys, method, strict=True)) for method in methods]
    drawn = picture(lambda theme: rank_figure(ranking, names, theme), "mean ranks of the methods with the critical difference")
    omitted = (
        f" {len(cells) - len(methods)} methods that were not run on all of these are left out."
        if len(cells) > len(methods)
        else ""
    )
    note = (
        f"Mean ranks over {len(data)} data sets and settings of episodes; Friedman's test that all methods are equal: p "
        f"{formats.p_value(ranking.p_value)}. "
        f"Methods under one bar differ by less than Nemenyi's critical difference (Demšar 2006).{omitted}"
    )
    return Section("ranks", "Ranks over data sets", None, _named([("ranks", drawn)]), note)


def _cost(rows: Sequence[Row]) -> Section | None:
    """A picture for each data set and setting of episodes, as scores of different ones cannot be compared."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row.choice('dataset')}, {row.setting}", []).append(row)
    pictures: list[tuple[str, Picture | None]] = []
    cells: list[tuple[Cell, ...]] = []
    for number, (title, members) in enumerate(groups.items(), 1):
        drawn = picture(
            lambda theme, m=members, t=title: cost_figure(m, theme, t if len(groups) > 1 else ""),  # type: ignore[misc]
            f"training time against score on {title}, with the Pareto front",
        )
        if drawn is not None:
            pictures.append(("cost" if len(groups) == 1 else f"cost_{number}", drawn))
            cells += [(Cell(title, title), *row) for row in _front_cells(members)]
    if not pictures:
        return None
    heads = ("episodes of", "in the picture", "name", "training time", rows[0].metric.heading)
    table = Table(heads, tuple(cells), (False, True, False, True, True))
    note = (
        "The table holds the Pareto front: no other setting is both faster to train and better than one of these. Times of "
        "different machines cannot be compared."
    )
    return Section("cost", "Cost and score", table, _named(pictures), note)


def _front_cells(rows: Sequence[Row]) -> list[tuple[Cell, ...]]:
    return [
        (
            Cell(str(number), number),
            Cell(row.label, row.label),
            Cell(formats.duration(row.training_seconds), row.training_seconds),
            Cell(row.metric.interval(row.interval.mean, row.interval.half_width), row.interval.mean),
        )
        for number, row in enumerate(cost_front(rows), 1)
    ]
