"""Figures of a search: importance of each parameter, all trials in parallel coordinates, and the front of two objectives."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from metaloop.errors import UserError
from metaloop.problems.metric import Metric
from metaloop.records.jobs import PRUNED
from metaloop.records.schema import SEARCH_VERSION
from metaloop.report.figures.theme import Theme, legend, new_figure, titles

FILE = "search.json"
_NEEDED = {"metric": dict, "space": dict, "objectives": dict, "trials": list, "best": list, "importances": dict}
_LOG_RATIO = 3.0  # errors that span more than this are drawn on a logarithmic axis
_VISIBLE = 0.8  # part of the color map that is visible on the background
_TITLES = {"tasks_per_second": "tasks/s", "peak_memory": "peak memory (MiB)", "seconds": "training (s)"}


def read_search(folder: Path) -> Mapping[str, Any] | None:
    """Read ``search.json`` in a sweep's folder; None if the sweep is not a search.

    Raises:
        UserError: the file cannot be read, or is of another version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no readable search ({error}); give the sweep's command again to rewrite it") from error
    if not isinstance(content, dict) or content.get("schema") != SEARCH_VERSION:
        version = content.get("schema") if isinstance(content, dict) else None
        raise UserError(
            f"{path}: written with schema {version!r}, this version reads {SEARCH_VERSION}; give the sweep's command again"
        )
    for key, kind in _NEEDED.items():
        if not isinstance(content.get(key), kind):
            raise UserError(f"{path}: {key} is {content.get(key)!r}, expected {kind.__name__}; give the sweep's command again")
    return {**content, "metric": Metric.from_dict(content["metric"])}


def importance_figure(search: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Draw the share of each parameter in reaching good values, one panel per objective; None if too few trials have ended."""
    importances = {name: shares for name, shares in search["importances"].items() if shares}
    if not importances:
        return None
    names = _short_names(list(search["space"]))
    figure, axes = new_figure(theme, len(importances), (1.6 + 3.4 * len(importances), 0.9 + 0.36 * len(names)))
    for ax, (objective, shares) in zip(axes, importances.items(), strict=True):
        rows = sorted(shares.items(), key=lambda pair: pair[1])
        bars = ax.barh([names[key] for key, _ in rows], [share for _, share in rows], color=theme.palette[0], height=0.62)
        percents = [f"{100 * share:.0f} %" for _, share in rows]
        ax.bar_label(bars, percents, padding=3, color=theme.text, fontsize=8.5)
        ax.set_xlim(0, 1.12)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.grid(False, axis="y")
        for label in ax.get_yticklabels():
            label.set_parse_math(False)
        titles(ax, theme, f"importance for {_title(objective, search).partition(' (')[0]}", "")
    return figure


def front_figure(search: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Draw every finished trial by its two objectives, with the Pareto front; None unless there are two objectives."""
    done = _done(search)
    if len(search["objectives"]) != 2 or not done:
        return None
    figure, (ax,) = new_figure(theme, 1, (4.9, 3.4))
    first, second = search["objectives"]
    points = {trial["number"]: (_value(trial, second, search), _value(trial, first, search)) for trial in done}
    front = sorted(points[number] for number in search["best"] if number in points)
    others = [point for number, point in points.items() if number not in search["best"]]
    ax.plot(*zip(*front, strict=True), "-o", color=theme.palette[0], linewidth=1.4, markersize=6, zorder=3)
    if others:
        ax.plot(*zip(*others, strict=True), "x", color=theme.muted, markersize=5)
    titles(ax, theme, _title(second, search), _title(first, search))
    handles = [Line2D([], [], color=theme.palette[0], marker="o", linewidth=1.4)]
    handles += [Line2D([], [], color=theme.muted, marker="x", linestyle="")] if others else []
    legend(figure, theme, handles, ["Pareto front", "other trials"][: len(handles)])
    return figure


def parallel_figure(search: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Draw every trial as a line through its parameters to its objectives, colored by the first; None if none has ended.

    Pruned trials have no value; their lines are gray and end before the objectives.
    """
    done = _done(search)
    if not done:
        return None
    pruned = [trial for trial in search["trials"] if trial["state"] == PRUNED]
    scales = [_of_parameter(key, one, [t["params"][key] for t in done + pruned]) for key, one in search["space"].items()]
    ends = [_of_objective(name, search, done) for name in search["objectives"]]
    names = [*_short_names(list(search["space"])).values(), *(_two_lines(scale.name) for scale in ends)]
    figure, (ax,) = new_figure(theme, 1, (1.2 + 1.25 * len(names), 3.6))
    for trial in pruned:
        heights = [scale.height(trial["params"][scale.key]) for scale in scales]
        ax.plot(range(len(scales)), heights, color=theme.muted, alpha=0.45, linewidth=0.8, linestyle=":")
    objective, direction = next(iter(search["objectives"].items()))
    ranked = sorted(done, key=lambda trial: trial["values"][objective], reverse=direction == "minimize")
    ranked.sort(key=lambda trial: trial["number"] in search["best"])  # drawn last, over the others
    for rank, trial in enumerate(ranked):
        heights = [scale.height(trial["params"][scale.key]) for scale in scales]
        heights += [scale.height(_value(trial, scale.key, search)) for scale in ends]
        best = trial["number"] in search["best"]
        color = theme.palette[1] if best else _color(rank / max(1, len(ranked) - 1), theme)
        ax.plot(range(len(names)), heights, color=color, linewidth=2.4 if best else 1.1, alpha=1 if best else 0.85, zorder=2)
    for place, scale in enumerate([*scales, *ends]):
        _draw_scale(ax, place, scale, theme)
    _frame(ax, names, theme)
    handles = [Line2D([], [], color=theme.palette[1], linewidth=2.4)]
    handles += [Line2D([], [], color=_color(rank, theme), linewidth=1.6) for rank in (0.9, 0.0)]
    handles += [Line2D([], [], color=theme.muted, linewidth=1, linestyle=":")] if pruned else []
    first = "best" if len(search["objectives"]) == 1 else "Pareto front"
    legend(figure, theme, handles, [first, "good", "bad", "pruned"][: len(handles)])
    return figure


@dataclass(frozen=True)
class _Scale:
    """One of the parallel axes; it maps values to heights in [0, 1]."""

    key: str
    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()

    def height(self, value: Any) -> float:
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return 0.5 if high == low else (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and labels of the ticks."""
        if self.choices:
            return [(self.height(choice), choice) for choice in self.choices]
        decades = self.log and self.high / self.low >= 10
        subs = (1.0,) if decades and self.high / self.low >= 1000 else (1.0, 3.0)
        wide = LogLocator(subs=subs) if decades else MaxNLocator(5, integer=self.whole)
        values = [value for value in wide.tick_values(self.low, self.high) if self.low <= value <= self.high]
        return [(self.height(value), f"{value:g}") for value in values]


def _of_parameter(key: str, one: Mapping[str, Any], values: Sequence[Any]) -> _Scale:
    if one["choices"]:
        return _Scale(key, key, choices=tuple(one["choices"]))
    low, high = min([one["low"], *values]), max([one["high"], *values])
    return _Scale(key, key, low, high, one["log"], one["kind"] == "int")


def _of_objective(name: str, search: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> _Scale:
    values = [_value(trial, name, search) for trial in done]
    low, high = min(values), max(values)
    log = name == "validation" and search["metric"].bounds == (0.0, None) and low > 0 and high / low > _LOG_RATIO
    return _Scale(name, _title(name, search), low, high, log)


def _draw_scale(ax: Axes, place: int, scale: _Scale, theme: Theme) -> None:
    ax.plot([place, place], [0, 1], color=theme.muted, linewidth=1, zorder=3)
    box = {"facecolor": theme.surface, "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for height, label in scale.ticks():
        ax.plot([place - 0.03, place], [height, height], color=theme.muted, linewidth=1, zorder=3)
        ax.text(
            place - 0.05, height, label, color=theme.text, fontsize=7.5, ha="right", va="center", zorder=4, bbox=box,
            parse_math=False,
        )  # fmt: skip


def _frame(ax: Axes, names: Sequence[str], theme: Theme) -> None:
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_yticks([])
    ax.set_xticks(range(len(names)), names, color=theme.text, fontsize=8.5)
    ax.tick_params(axis="x", length=0, pad=6)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)
    ax.set_xlim(-0.55, len(names) - 0.9)
    ax.set_ylim(-0.04, 1.04)


def _two_lines(name: str) -> str:
    return name.replace(" ", "\n", 1) if len(name) > 12 else name


def _color(rank: float, theme: Theme) -> tuple[float, float, float, float]:
    """Color from faint for the worst (0) to strong for the best (1), distinguishable with every kind of color vision."""
    place = 1 - _VISIBLE * (1 - rank) if theme.name == "dark" else _VISIBLE * (1 - rank)
    red, green, blue, alpha = colormaps["cividis"](float(np.clip(place, 0, 1)))
    return red, green, blue, alpha


def _done(search: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [trial for trial in search["trials"] if trial["values"]]


def _value(trial: Mapping[str, Any], objective: str, search: Mapping[str, Any]) -> float:
    """Value of an objective in the unit of its title."""
    scale = {"validation": search["metric"].scale, "peak_memory": 2.0**-20}
    return float(trial["values"][objective] * scale.get(objective, 1.0))


def _title(objective: str, search: Mapping[str, Any]) -> str:
    return _TITLES.get(objective) or f"meta-validation {search['metric'].heading}"


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """Map dotted keys to their shortest endings that are unique."""
    parts = {key: key.replace("/", ".").split(".") for key in keys}
    names = {}
    for key, words in parts.items():
        lengths = range(1, len(words) + 1)
        others = [other for name, other in parts.items() if name != key]
        length = next((n for n in lengths if all(other[-n:] != words[-n:] for other in others)), len(words))
        names[key] = ".".join(words[-length:])
    return names
