"""Figures of single episodes: the sheet of an image episode, the functions of a regression episode."""

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from metaloop.report.figures.theme import MISSING, Theme, drawable, legend, new_figure, short, titles

Arrays = Mapping[str, np.ndarray]

# Most classes, shots, queries and functions that are drawn; a sheet's title says what is left out.
_MAX_WAYS, _MAX_SHOTS, _MAX_QUERIES, _MAX_FUNCTIONS = 20, 5, 6, 4
_CELL, _CAPTION, _GAP = 1.0, 0.34, 0.12  # sizes of an image, its caption and the gap between, in image sides
_INCHES = 0.62  # side of an image
_POINTS, _LONGEST = 8.5, 24  # size of the letters of a class's name, and their highest number


def sample_figure(samples: Arrays, theme: Theme) -> Figure | None:
    """Draw the figure that fits the samples: a sheet for images, functions for a regression, None for other samples."""
    if "grid" in samples:
        return regression_figure(samples, theme)
    images = samples.get("support_x")
    return episode_sheet(samples, theme) if images is not None and images.ndim == 4 else None


def episode_sheet(samples: Arrays, theme: Theme) -> Figure:
    """Draw one episode with a row for each class: its support images on the left, its queries on the right.

    Below a query are the predicted class and its probability. A right prediction has a tick and a solid frame, a wrong one
    a cross and a dashed frame, so that they can be distinguished without color.

    Args:
        samples: ``support_x`` and ``query_x`` (n, channels, height, width) in [0, 1], ``support_y`` and ``query_y``
            (n,), ``probabilities`` (queries, ways), ``index`` the episode's number, ``names`` (ways,) of the classes if known.
        theme: colors of the figure.
    """
    support = [np.flatnonzero(samples["support_y"] == c) for c in np.unique(samples["support_y"])[:_MAX_WAYS]]
    queries = [np.flatnonzero(samples["query_y"] == c) for c in np.unique(samples["support_y"])[:_MAX_WAYS]]
    shots = min(max(map(len, support)), _MAX_SHOTS)
    shown = max(1, min(max(map(len, queries)), _MAX_QUERIES))
    step, row_height = _CELL + _GAP, _CELL + _CAPTION + _GAP
    names = [_row_name(samples, int(label)) for label in np.unique(samples["support_y"])[:_MAX_WAYS]]
    left = max(1.0, max(map(_width, names)) + 0.15)  # x of the first support image
    start = left + shots * step + 0.45  # x of the first query
    width, height = max(start + shown * step, start + 6.2), len(support) * row_height + 1.0
    figure = Figure(figsize=(_INCHES * width, _INCHES * height), dpi=150, facecolor=theme.surface)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    ax.set_axis_off()
    for row, (shot_rows, query_rows) in enumerate(zip(support, queries, strict=True)):
        y = 1.0 + row * row_height
        place = left - 0.1, y + _CELL / 2
        ax.text(*place, names[row], ha="right", va="center", fontsize=_POINTS, color=theme.text, parse_math=False)
        for column, number in enumerate(shot_rows[:shots]):
            _image(ax, samples["support_x"][number], left + column * step, y, theme.muted, "-", 0.8)
        for column, number in enumerate(query_rows[:shown]):
            _query(ax, samples, int(number), start + column * step, y, theme)
    for x, text in ((left, "support"), (start, "queries, with the predicted class and its probability")):
        ax.text(x, 0.75, text, ha="left", va="center", fontsize=9, fontweight="bold", color=theme.text)
    title = _sheet_title(samples, support, queries, shots, shown)
    ax.text(0.0, 0.25, title, va="center", fontsize=9, color=theme.muted)
    ax.set(xlim=(0.0, width), ylim=(height, 0.0), aspect="equal")
    return figure


def _row_name(samples: Arrays, label: int) -> str:
    """The number of a class, by which predictions name it, with its name if that is known and can be drawn."""
    name = drawable(str(samples["names"][label])) if "names" in samples else ""
    return f"{short(name, _LONGEST)}  {label + 1}" if name.strip(MISSING) else f"class {label + 1}"


def _width(text: str) -> float:
    """Width of a class's name, in image sides, with room for letters that are moved to whole pixels."""
    points, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=_POINTS), ismath=False)
    return 1.05 * points / 72 / _INCHES


def regression_figure(samples: Arrays, theme: Theme) -> Figure:
    """Draw the true functions and support points of some episodes, with predictions before and after adaptation.

    Predictive distributions are drawn as a mean with a 90 % band instead.

    Args:
        samples: ``grid`` (g,); ``true`` and either ``before`` and ``after``, or ``mean``, ``low`` and ``high`` of predictive
            distributions, each (tasks, g); ``support_x`` and ``support_y`` (tasks, shots), nan for padding.
        theme: colors of the figure.
    """
    count = min(len(samples["true"]), _MAX_FUNCTIONS)
    figure, axes = new_figure(theme, count, (3.1 * count + 0.4, 3.2))
    low, high = (float(edge(samples["true"][:count])) for edge in (np.nanmin, np.nanmax))
    if "low" in samples:
        low, high = min(low, float(samples["low"][:count].min())), max(high, float(samples["high"][:count].max()))
    room = (0.08 if "low" in samples else 0.25) * max(high - low, 1e-6)
    for task, ax in enumerate(axes):
        handles = _functions(ax, samples, task, theme)
        points = ax.scatter(samples["support_x"][task], samples["support_y"][task], s=34, color=theme.text, zorder=4)
        points.set_edgecolor(theme.surface)
        handles["support points"] = Line2D([], [], linestyle="", marker="o", color=theme.text, markersize=5.5)
        ax.set_ylim(low - room, high + room)
        number = int(samples["index"][task]) if "index" in samples else task
        titles(ax, theme, "x", "y" if task == 0 else "", f"task {number}")
    legend(figure, theme, list(handles.values()), list(handles))
    return figure


def _functions(ax: Axes, samples: Arrays, task: int, theme: Theme) -> dict[str, Artist]:
    """Draw one task's curves; return the legend's artists by label."""
    first, second = theme.palette[:2]
    looks = {
        "true": ("true function", theme.muted, "-", 3.0),
        "before": ("before adaptation", second, "--", 1.5),
        "after": ("after adaptation", first, "-", 1.8),
        "mean": ("predictive mean", first, "-", 1.8),
    }
    handles: dict[str, Artist] = {}
    for name, (label, color, dashes, width) in looks.items():
        if name in samples:
            alpha = 0.55 if name == "true" else 1
            handles[label] = ax.plot(
                samples["grid"], samples[name][task], dashes, color=color, linewidth=width, alpha=alpha
            )[0]  # fmt: skip
    if "low" in samples:
        edges = samples["low"][task], samples["high"][task]
        handles["90 % band"] = ax.fill_between(samples["grid"], *edges, color=first, alpha=0.22, linewidth=0)
    return handles


def _sheet_title(samples: Arrays, support: list[np.ndarray], queries: list[np.ndarray], shots: int, shown: int) -> str:
    parts = []
    ways = len(np.unique(samples["support_y"]))
    if ways > len(support):
        parts.append(f"{len(support)} of {ways} classes")
    if max(map(len, support)) > shots:
        parts.append(f"{shots} of {max(map(len, support))} shots")
    if max(map(len, queries)) > shown:
        parts.append(f"{shown} of {max(map(len, queries))} queries per class")
    name = f"episode {int(samples['index'])}" if "index" in samples else "one episode"
    right = (samples["probabilities"].argmax(-1) == samples["query_y"]).mean()
    return ", ".join([f"{name}: {100 * right:.1f} % of all queries right", *parts])


def _query(ax: Axes, samples: Arrays, number: int, x: float, y: float, theme: Theme) -> None:
    probabilities = samples["probabilities"][number]
    guess = int(probabilities.argmax())
    right = guess == int(samples["query_y"][number])
    color = theme.good if right else theme.bad
    _image(ax, samples["query_x"][number], x, y, color, "-" if right else (0, (2.5, 1.5)), 1.8)
    caption = f"{'✓' if right else '✗'} {guess + 1}  {100 * probabilities[guess]:.0f} %"
    ax.text(
        x + _CELL / 2, y + _CELL + 0.22, caption, ha="center", va="center", fontsize=7.6, color=color,
        fontweight="normal" if right else "bold",
    )  # fmt: skip


def _image(ax: Axes, image: np.ndarray, x: float, y: float, color: str, dashes: object, width: float) -> None:
    """Draw a (channels, height, width) image with a frame, its upper left corner at (x, y)."""
    pixels = np.clip(image, 0.0, 1.0).transpose(1, 2, 0)
    gray = pixels.shape[-1] != 3
    extent = (x, x + _CELL, y + _CELL, y)
    ax.imshow(pixels.mean(-1) if gray else pixels, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    ax.add_patch(Rectangle((x, y), _CELL, _CELL, fill=False, edgecolor=color, linewidth=width, linestyle=dashes))
