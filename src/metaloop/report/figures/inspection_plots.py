"""Figures of an inspection: scores with parts held fixed, losses, movement of parameters and representations."""

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


def parts_figure(inspection: Inspection, names: Mapping[str, str], theme: Theme) -> Figure | None:
    """Draw the scores with their intervals, one line each; None if there is only one."""
    shown = [name for name in names if name in inspection["parts"]]
    if len(shown) < 2:
        return None
    figure, (ax,) = new_figure(theme, 1, (6.4, 0.42 * len(shown) + 1.0))
    scale = inspection["metric"].scale
    for row, name in enumerate(shown):
        part = inspection["parts"][name]
        color = theme.palette[0] if name == "all" else theme.palette[1] if name == "start" else theme.text
        half = scale * (part["half_width"] or 0.0)
        ax.errorbar(scale * part["mean"], row, xerr=half, fmt="o", color=color, capsize=4, markersize=6)
    ax.set_yticks(range(len(shown)), [names[name] for name in shown], color=theme.text)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    titles(ax, theme, inspection["metric"].heading, "")
    return figure


def losses_figure(inspection: Inspection, theme: Theme) -> Figure | None:
    """Draw inner loss, query loss and, if it differs from the loss, the score over inner steps; None without inner steps."""
    if "inner_loss" not in inspection:
        return None
    metric = inspection["metric"]
    panels = 1 if inspection["score"] == inspection["query_loss"] else 2  # the loss of a regression is its score
    figure, axes = new_figure(theme, panels, (3.9 * panels + 0.6, 3.0))
    handles = []
    for name, number in (("inner_loss", 0), ("query_loss", 1)):
        handles.append(_curve(axes[0], inspection["points"], inspection[name], (theme.palette[number], "-")))
    _steps(axes[0], theme, "loss" if panels == 2 else metric.heading)
    labels = ["inner loss (support)", "query loss"]
    if panels == 2:
        handles.append(_curve(axes[1], inspection["points"], inspection["score"], (theme.palette[2], "-"), metric.scale))
        _steps(axes[1], theme, f"query {metric.heading}")
        labels.append(f"query {metric.title}")
    legend(figure, theme, handles, labels)
    return figure


def similarity_figure(inspection: Inspection, theme: Theme) -> Figure | None:
    """Draw each layer's similarities after the last step, and its linear CKA over inner steps; None without layers or steps."""
    rows = inspection.get("representations") or []
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
    titles(left, theme, "", "similarity", f"after step {inspection['points'][-1]}")
    for number, row in enumerate(rows):
        handles.append(_curve(right, inspection["points"], row["cka"], curve_look(theme, number)))
        labels.append(row["layer"])
    _steps(right, theme, "linear CKA with the start")
    for ax in (left, right):
        _unit_scale(ax)
    legend(figure, theme, handles, labels)
    return figure


def movement_figure(inspection: Inspection, theme: Theme) -> Figure | None:
    """Draw distance from the start, cosine with the start, and gradient norm of each layer's parameters over inner steps.

    Only adapted parameters count; None without them.
    """
    rows = inspection.get("parameters") or []
    if not rows:
        return None
    relative = any(point["mean"] is not None for row in rows for point in row["relative_distance"])
    panels = (
        [("relative_distance", "distance from the start / its norm")] if relative else [("distance", "distance from the start")]
    )
    panels += [("cosine", "cosine with the start")] if relative else []
    panels += [("gradient_norm", "norm of the inner gradient")]
    figure, axes = new_figure(theme, len(panels), (3.6 * len(panels) + 0.4, 3.0))
    order = [row["layer"] for row in inspection["representations"]]  # gives a layer the same look in both figures
    order += [row["layer"] for row in rows if row["layer"] not in order]
    looks = [curve_look(theme, order.index(row["layer"])) for row in rows]
    handles = []
    for ax, (measure, label) in zip(axes, panels, strict=True):
        handles = [_curve(ax, inspection["points"], row[measure], look) for row, look in zip(rows, looks, strict=True)]
        _steps(ax, theme, label)
    legend(figure, theme, handles, [row["layer"] for row in rows])
    return figure


def _means(points: Points) -> np.ndarray:
    return np.array([np.nan if point["mean"] is None else point["mean"] for point in points], float)


def _halves(points: Points) -> np.ndarray:
    return np.array([point["half_width"] or 0.0 for point in points], float)


def _curve(ax: Axes, steps: Sequence[int], points: Points, look: Look, scale: float = 1.0) -> Line2D:
    """Draw a mean with its band; missing values leave gaps."""
    color, dashes = look
    means, halves = scale * _means(points), scale * _halves(points)
    ax.fill_between(steps, means - halves, means + halves, color=color, alpha=0.18, linewidth=0)
    (line,) = ax.plot(steps, means, dashes, color=color, linewidth=1.6, marker="o", markersize=3.2)
    return line


def _steps(ax: Axes, theme: Theme, label: str) -> None:
    titles(ax, theme, "inner step", label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _unit_scale(ax: Axes) -> None:
    """Let the axis end at 1 and begin at 0, or below if a value is negative."""
    low = ax.get_ylim()[0]
    ax.set_ylim(min(0.0, low), 1.04)
