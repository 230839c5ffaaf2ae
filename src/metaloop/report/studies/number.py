"""The page of the study *What a number means*: what of a published accuracy is protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from metaloop.metrics.interval import Interval
from metaloop.records.studies import StudyRecord
from metaloop.records.tables import Array
from metaloop.report import formats
from metaloop.report.figures.theme import LIGHT, new_figure, png, titles
from metaloop.report.studies.parts import StudyPage, by_setting, gap, interval, intro, shown
from metaloop.report.tables.markdown import table

FACTORS = {
    "episode.queries": "queries a class at test",
    "model.norm": "statistics of norm layers at test",
    "dataset.rotations": "rotation at test",
    "algorithm.eval_steps": "inner steps at test",
    "algorithm/meta_gradient": "meta-gradient in training",
}
_TASKS = "evaluation.episodes"
_SETS = (100, 600)  # sizes of the sets into which many test tasks are divided
_NAMES = {"batch": "all queries (transductive)", "support": "support set (inductive)", "augment": "random turns",
          "unrolled": "second order", "first_order": "first order"}  # fmt: skip
_EFFECTS, _LUCK = "study_number_effects.png", "study_number_tasks.png"


@dataclass(frozen=True)
class Effect:
    """One value of one factor against the first value, over the settings of the others that were run with every value.

    Attributes:
        factor, value: Key and value.
        scores: (episodes,) mean over the settings.
        difference: To the first value, paired over episode numbers; None for the first.
        settings: Number of settings.
    """

    factor: str
    value: str
    scores: Array
    difference: Interval | None
    settings: int


def page(record: StudyRecord) -> StudyPage:
    """Make the page."""
    effects = main_effects(record)
    many = _many_tasks(record)
    pictures = {_EFFECTS: png(_effects_figure(record, effects))}
    text = intro(record, "What a number means", _ABOUT) + "\n" + _range(record) + _effects_text(record, effects)
    if many is not None:
        pictures[_LUCK] = png(_luck_figure(record, many))
        text += _luck_text(record, many)
    return StudyPage(text, pictures)


_ABOUT = (
    'Papers print one accuracy for "5-way 1-shot Omniglot". How much of it is the protocol of the test? The same trained '
    "MAML networks are scored here in many ways; only the first order needs a training of its own."
)


def main_effects(record: StudyRecord) -> list[Effect]:
    """Effects of all factors with two values or more."""
    keys = list(FACTORS)
    cells = {place: record.scores[one.column] for place, one in by_setting(record, keys).items()}
    effects = []
    for number, key in enumerate(keys):
        values = list(dict.fromkeys(place[number] for place in cells))
        parts = [
            {place[:number] + place[number + 1 :]: scores for place, scores in cells.items() if place[number] == value}
            for value in values
        ]
        shared = [rest for rest in parts[0] if all(rest in part for part in parts)] if parts else []
        if len(values) < 2 or not shared:
            continue
        averaged = [np.mean([part[rest] for rest in shared], axis=0) for part in parts]
        for value, scores in zip(values, averaged, strict=True):
            difference = None if value == values[0] else gap(scores, averaged[0])
            effects.append(Effect(key, value, scores, difference, len(shared)))
    return effects


def _range(record: StudyRecord) -> str:
    cells = by_setting(record, list(FACTORS))
    first = next(iter(cells))[-1]  # the training that the study names first
    scored = {place: record.scores[one.column] for place, one in cells.items() if place[-1] == first}
    low, high = (choose(scored, key=lambda place: float(scored[place].mean())) for choose in (min, max))

    def said(place: tuple[str, ...]) -> str:
        parts = [f"{FACTORS[key]} {_named(value)}" for key, value in zip(FACTORS, place, strict=True)][:-1]
        return f"{shown(record, scored[place])} ({'; '.join(parts)})"

    return (
        f"**One network, {len(scored)} protocols:** its {record.facts.metric.title} is anything from {said(low)} to "
        f"{said(high)}.\n\n"
    )


def _effects_text(record: StudyRecord, effects: Sequence[Effect]) -> str:
    metric = record.facts.metric
    rows = [
        (FACTORS[each.factor], _named(each.value), shown(record, each.scores), formats.difference(each.difference, metric),
         str(each.settings))
        for each in effects
    ]  # fmt: skip
    moved = sorted(
        (each for each in effects if each.difference is not None),
        key=lambda each: -abs(each.difference.mean if each.difference else 0),
    )
    order = "; ".join(
        f"{FACTORS[each.factor]} {_named(each.value)} {formats.difference(each.difference, metric)}" for each in moved
    )
    heads = ("what", "value", metric.heading, "against the first value", "settings")
    return (
        f"## Main effects\n\nFrom the largest: {order}.\n\n{table(heads, rows)}\nEach value is averaged over those settings "
        "of all the others that were run with every value of it. Differences are paired: episode *i* has the "
        "same characters throughout and, unless the number of queries differs, the same drawings.\n\n"
        f"![Main effects with paired intervals](images/{_EFFECTS})\n\n{_together(record)}"
    )


def _together(record: StudyRecord) -> str:
    """Table of the factors that work together: queries help normalise each other if the statistics are theirs."""
    keys = list(FACTORS)
    queries, norm = keys[0], keys[1]
    cells = {place: record.scores[one.column] for place, one in by_setting(record, keys).items()}
    grid: dict[tuple[str, str], dict[tuple[str, ...], Array]] = {(place[1], place[0]): {} for place in cells}
    for place, scores in cells.items():
        grid[place[1], place[0]][place[2:]] = scores
    shared = [rest for rest in next(iter(grid.values())) if all(rest in part for part in grid.values())]
    norms, counts = (list(dict.fromkeys(pair[number] for pair in grid)) for number in (0, 1))
    if len(norms) < 2 or len(counts) < 2 or len(grid) < len(norms) * len(counts) or not shared:
        return ""
    rows = [
        (_named(each), *(shown(record, np.mean([grid[each, n][rest] for rest in shared], axis=0)) for n in counts))
        for each in norms
    ]
    heads = (f"{FACTORS[norm]}, by {FACTORS[queries]}", *counts)
    return f"Queries and norm statistics work together ({len(shared)} settings each):\n\n{table(heads, rows)}\n"


def _named(value: str) -> str:
    return _NAMES.get(value, value)


def _effects_figure(record: StudyRecord, effects: Sequence[Effect]) -> Figure:
    metric, moved = record.facts.metric, [each for each in effects if each.difference is not None]
    figure, (ax,) = new_figure(LIGHT, 1, (7.6, 0.8 + 0.36 * len(moved)))
    for place, each in enumerate(reversed(moved)):
        assert each.difference is not None
        half = metric.scale * (each.difference.half_width or 0.0)
        ax.errorbar(metric.scale * each.difference.mean, place, xerr=half, fmt="o", color=LIGHT.palette[0], capsize=3)
    first = {each.factor: each.value for each in effects if each.difference is None}
    labels = [f"{FACTORS[each.factor]}:\n{_named(each.value)}, not {_named(first[each.factor])}" for each in reversed(moved)]
    ax.set_yticks(range(len(moved)), labels)
    ax.axvline(0.0, color=LIGHT.muted, linewidth=1)
    titles(ax, LIGHT, f"difference of {metric.title} ({metric.unit})", "")
    return figure


def _many_tasks(record: StudyRecord) -> Array | None:
    """Scores of the evaluation over many tasks in the first training; None if there is none."""
    found = [one for one in record.facts.evaluations if list(one.settings) == [_TASKS] and one.run == 0]
    return record.scores[found[0].column] if found else None


def _sets(scores: Array, size: int) -> list[Interval]:
    return [interval(scores[start : start + size]) for start in range(0, len(scores) - size + 1, size)]


def _luck_text(record: StudyRecord, scores: Array) -> str:
    metric, rows = record.facts.metric, []
    for size in (*[size for size in _SETS if len(scores) >= 2 * size], len(scores)):
        sets = _sets(scores, size)
        means = [each.mean for each in sets]
        half = float(np.mean([each.half_width or 0.0 for each in sets]))
        spread = f"{metric.number(min(means))} to {metric.number(max(means))}"
        rows.append((str(size), str(len(sets)), metric.number(half), spread))
    heads = ("test tasks", "disjoint sets", "half-width of one set's interval", f"means of the sets ({metric.unit})")
    return (
        f"## Number of test tasks\n\nThe paper's protocol, one network, {len(scores)} tasks divided into sets: the number of "
        f"tasks moves no mean, it says how far luck does.\n\n{table(heads, rows)}\n"
        f"![Means of disjoint sets of tasks](images/{_LUCK})\n"
    )


def _luck_figure(record: StudyRecord, scores: Array) -> Figure:
    sizes = [size for size in _SETS if len(scores) >= 2 * size]
    figure, axes = new_figure(LIGHT, max(1, len(sizes)), (7.6, 2.9))
    scale = record.facts.metric.scale
    for ax, size in zip(axes, sizes, strict=False):
        sets = sorted(_sets(scores, size), key=lambda each: each.mean)
        half = [scale * (each.half_width or 0.0) for each in sets]
        ax.errorbar(
            range(len(sets)), [scale * each.mean for each in sets], half, fmt="o", color=LIGHT.palette[0], markersize=3.5
        )
        ax.axhline(scale * float(scores.mean()), color=LIGHT.palette[1], linewidth=1.2)
        ax.set_xticks([])
        titles(ax, LIGHT, f"sets of {size} tasks, sorted", record.facts.metric.heading if ax is axes[0] else "")
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
    return figure
