"""Figures of an inspection: scores with parts held, losses, movement of parameters and representations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from metaloop.report.figures.theme import Look, Theme, curve_look, legend, new_figure, titles

Inspection = Mapping[str, Any]
Points = Sequence[Mapping[str, float | None]]
_MARKERS = {"cka": ("o", "linear CKA"), "cosine": ("D", "mean cosine")}


def parts_figure(found: Inspection, names: Mapping[str, str], theme: Theme) -> Figure | None:
    """Scores with their intervals, one line each; None where there is only one."""
    shown = [name for name in names if name in found["parts"]]
    if len(shown) < 2:
        return None
    figure, (ax,) = new_figure(theme, 1, (6.4, 0.42 * len(shown) + 1.0))
    scale = found["metric"].scale
    for row, name in enumerate(shown):
        part = found["parts"][name]
        colour = theme.palette[0] if name == "all" else theme.palette[1] if name == "start" else theme.text
        half = scale * (part["half_width"] or 0.0)
        ax.errorbar(scale * part["mean"], row, xerr=half, fmt="o", color=colour, capsize=4, markersize=6)
    ax.set_yticks(range(len(shown)), [names[name] for name in shown], color=theme.text)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    titles(ax, theme, found["metric"].heading, "")
    return figure


def losses_figure(found: Inspection, theme: Theme) -> Figure | None:
    """Inner and query loss, and the score where it is another number, over inner steps; None without inner steps."""
    if "inner_loss" not in found:
        return None
    metric = found["metric"]
    panels = 1 if found["score"] == found["query_loss"] else 2  # of a regression the loss is the score
    figure, axes = new_figure(theme, panels, (3.9 * panels + 0.6, 3.0))
    handles = []
    for name, number in (("inner_loss", 0), ("query_loss", 1)):
        handles.append(_curve(axes[0], found["points"], found[name], (theme.palette[number], "-")))
    _steps(axes[0], theme, "loss" if panels == 2 else metric.heading)
    labels = ["inner loss (support)", "query loss"]
    if panels == 2:
        handles.append(_curve(axes[1], found["points"], found["score"], (theme.palette[2], "-"), metric.scale))
        _steps(axes[1], theme, f"query {metric.heading}")
        labels.append(f"query {metric.title}")
    legend(figure, theme, handles, labels)
    return figure


def similarity_figure(found: Inspection, theme: Theme) -> Figure | None:
    """By layer after the last step, and linear CKA by layer over inner steps; None without layers or steps."""
    rows = found.get("representations") or []
    if not rows:
        return None
    figure, (left, right) = new_figure(theme, 2, (9.0, 3.3))
    places = np.arange(len(rows))
    handles, labels = [], []
    for number, (measure, (marker, label)) in enumerate(_MARKERS.items()):
        last = [row[measure][-1] for row in rows]
        bars = left.errorbar(
            places + 0.16 * (number - 0.5), _means(last), yerr=_halves(last), fmt=marker, color=theme.palette[-1 - 2 * number],
            capsize=3, markersize=5,
        )  # fmt: skip
        handles.append(Line2D([], [], linestyle="", marker=marker, color=bars[0].get_color(), markersize=5))
        labels.append(f"{label} with the start")
    left.set_xticks(places, [row["layer"] for row in rows], rotation=30, ha="right", rotation_mode="anchor")
    titles(left, theme, "", "similarity", f"after step {found['points'][-1]}")
    for number, row in enumerate(rows):
        handles.append(_curve(right, found["points"], row["cka"], curve_look(theme, number)))
        labels.append(row["layer"])
    _steps(right, theme, "linear CKA with the start")
    for ax in (left, right):
        _unit_scale(ax)
    legend(figure, theme, handles, labels)
    return figure


def movement_figure(found: Inspection, theme: Theme) -> Figure | None:
    """Distance from the start, cosine with it and gradient norm of each layer's adapted parameters over inner steps."""
    rows = found.get("parameters") or []
    if not rows:
        return None
    relative = any(point["mean"] is not None for row in rows for point in row["relative_distance"])
    panels = (
        [("relative_distance", "distance from the start / its norm")] if relative else [("distance", "distance from the start")]
    )
    panels += [("cosine", "cosine with the start")] if relative else []
    panels += [("gradient_norm", "norm of the inner gradient")]
    figure, axes = new_figure(theme, len(panels), (3.6 * len(panels) + 0.4, 3.0))
    order = [row["layer"] for row in found["representations"]]  # a layer looks the same in both figures
    order += [row["layer"] for row in rows if row["layer"] not in order]
    looks = [curve_look(theme, order.index(row["layer"])) for row in rows]
    handles = []
    for ax, (measure, label) in zip(axes, panels, strict=True):
        handles = [_curve(ax, found["points"], row[measure], look) for row, look in zip(rows, looks, strict=True)]
        _steps(ax, theme, label)
    legend(figure, theme, handles, [row["layer"] for row in rows])
    return figure


def _means(points: Points) -> np.ndarray:
    return np.array([np.nan if point["mean"] is None else point["mean"] for point in points], float)


def _halves(points: Points) -> np.ndarray:
    return np.array([point["half_width"] or 0.0 for point in points], float)


def _curve(ax: Axes, steps: Sequence[int], points: Points, look: Look, scale: float = 1.0) -> Line2D:
    """A mean with its band; gaps where there is none."""
    colour, dashes = look
    means, halves = scale * _means(points), scale * _halves(points)
    ax.fill_between(steps, means - halves, means + halves, color=colour, alpha=0.18, linewidth=0)
    (line,) = ax.plot(steps, means, dashes, color=colour, linewidth=1.6, marker="o", markersize=3.2)
    return line


def _steps(ax: Axes, theme: Theme, label: str) -> None:
    titles(ax, theme, "inner step", label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _unit_scale(ax: Axes) -> None:
    """Similarities end at 1; the axis begins at 0 unless something lies below."""
    low = ax.get_ylim()[0]
    ax.set_ylim(min(0.0, low), 1.04)
