"""Figures of an inspection for tasks with classes: the embedding map, accuracy by class, confusions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metaloop.problems.metric import ACCURACY
from metaloop.records.tables import Array
from metaloop.report.figures.theme import Theme, drawable, legend, new_figure, short, titles

_CLASSES, _MATRIX = 30, 24  # most classes that the plot of accuracies and the matrix show
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


def map_figure(points: Mapping[str, Array], theme: Theme) -> Figure:
    """Draw one episode before and after adaptation on the same two components: classes by color, support large, queries small.

    Each panel has its own scale, as features may shrink or grow a lot.
    """
    panels = [name for name in ("before", "after") if name in points]
    figure, axes = new_figure(theme, len(panels), (4.1 * len(panels) + 0.4, 3.9))
    share = 100 * points["explained"]
    for ax, name in zip(axes, panels, strict=True):
        _draw_points(ax, points[name], points["label"], points["is_query"], theme)
        title = f"{name} adaptation" if len(panels) > 1 else ""
        titles(ax, theme, f"first component ({share[0]:.0f} %)", f"second ({share[1]:.0f} %)", title)
    labels = np.unique(points["label"])
    looks = [_look(int(label), theme) for label in labels]
    handles = [Line2D([], [], linestyle="", marker=mark, color=color, markersize=5) for color, mark in looks]
    handles.append(Line2D([], [], linestyle="", marker="o", color=theme.muted, markeredgecolor=theme.text, markersize=9))
    legend(figure, theme, handles, [*(_class_name(points, int(label)) for label in labels), "large: support"])
    return figure


def _class_name(points: Mapping[str, Array], label: int) -> str:
    return _short(str(points["names"][label])) if "names" in points else f"class {label + 1}"


def _look(label: int, theme: Theme) -> tuple[str, str]:
    """Color and marker of a class; neighboring classes differ in both."""
    colors = len(theme.palette)
    return theme.palette[label % colors], _MARKS[(label + label // colors) % len(_MARKS)]


def _draw_points(ax: Axes, places: Array, labels: Array, is_query: Array, theme: Theme) -> None:
    for label in np.unique(labels):
        color, mark = _look(int(label), theme)
        for query, size, alpha in ((True, 22, 0.75), (False, 110, 1.0)):
            chosen = places[(labels == label) & (is_query == query)]
            edge = theme.surface if query else theme.text
            ax.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=size,
                c=[color],
                marker=mark,
                edgecolors=edge,
                linewidths=0.5 if query else 1.2,
                alpha=alpha,
            )


def classes_figure(inspection: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Draw the accuracy of each class with its interval over episodes, the worst first; None without classes."""
    rows = inspection.get("classes") or []
    if not rows:
        return None
    shown = rows[:_CLASSES]
    figure, (ax,) = new_figure(theme, 1, (5.6, 0.2 * len(shown) + 1.2))
    places = np.arange(len(shown))
    means = ACCURACY.scale * np.array([row["mean"] for row in shown])
    low, high = (ACCURACY.scale * np.array([row[end] for row in shown]) for end in ("low", "high"))
    reach = np.stack([means - low, high - means]).clip(min=0.0)  # rounding may leave -1e-16
    ax.errorbar(means, places, xerr=reach, fmt="o", color=theme.palette[0], ecolor=theme.muted, capsize=2.5, markersize=4.5)
    label, overall = ACCURACY.heading, inspection["parts"]["all"]["mean"]
    if inspection["metric"] == ACCURACY:  # the score of tagging is not an accuracy
        ax.axvline(ACCURACY.shown(overall), color=theme.palette[1], linestyle="--", linewidth=1.3)
        label += f"; dashed: {ACCURACY.shown(overall):.1f} over all"
    for text in ax.set_yticks(places, [_short(row["class"]) for row in shown]):
        text.label1.set_parse_math(False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(*_percent_limits(means, reach.max(0)))
    cut = f"{len(shown)} of {len(rows)} classes, the worst first" if len(rows) > len(shown) else ""
    titles(ax, theme, label, "", cut)
    return figure


def _percent_limits(means: Array, halves: Array) -> tuple[float, float]:
    """Limits of the axis; they do not follow intervals beyond the range of an accuracy."""
    return max(-2.0, float((means - halves).min()) - 2.0), min(102.0, float((means + halves).max()) + 2.0)


def confusion_figure(inspection: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Draw confusions as a matrix: the share of a row's queries that were predicted as the column's class.

    Only queries of episodes with both classes count. The classes are those of the most frequent mistakes; None without
    mistakes.
    """
    pairs = inspection.get("confusion") or []
    if not pairs:
        return None
    names: list[str] = []
    for pair in pairs:
        names += [name for name in (pair["class"], pair["answer"]) if name not in names]
    every, names = len(names), sorted(names[:_MATRIX])
    shares = np.full((len(names), len(names)), np.nan)
    for pair in pairs:
        if pair["class"] in names and pair["answer"] in names:
            shares[names.index(pair["class"]), names.index(pair["answer"])] = 100 * pair["taken"] / pair["asked"]
    side = 0.21 * len(names)
    figure, (ax,) = new_figure(theme, 1, (side + 2.2, side + 1.6))
    ax.grid(False)
    image = ax.imshow(shares, cmap="viridis" if theme.name == "dark" else "viridis_r", vmin=0, interpolation="nearest")
    letters = max(map(len, names)) <= 2
    for axis, rotation in ((ax.xaxis, 0 if letters else 90), (ax.yaxis, 0)):
        for tick in axis.set_ticks(range(len(names)), [_short(name) for name in names], rotation=rotation):
            tick.label1.set_parse_math(False)
    bar = figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label("% of queries", color=theme.text, fontsize=9.5)
    bar.ax.tick_params(colors=theme.muted, labelsize=8.5)
    bar.outline.set_visible(False)
    titles(ax, theme, "answer", "class", f"the {len(names)} most mistaken classes" if every > len(names) else "")
    return figure


def _short(name: str) -> str:
    return drawable(short(name, 28))
