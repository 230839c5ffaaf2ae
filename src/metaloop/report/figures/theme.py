"""Colours of figures, light and dark, and how a figure becomes a file. No global state of matplotlib is touched."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


@dataclass(frozen=True)
class Theme:
    """One set of colours. The palettes follow Okabe and Ito, which every kind of colour vision tells apart.

    Attributes:
        surface: behind the figure; ``text``, ``muted`` and ``grid`` are drawn on it.
        palette: of curves, in this order.
        good: right answers, which also carry a tick; ``bad``: wrong ones, which carry a cross.
    """

    name: str
    surface: str
    text: str
    muted: str
    grid: str
    palette: tuple[str, ...]
    good: str
    bad: str


LIGHT = Theme(
    "light", "#ffffff", "#1b2430", "#5b6675", "#e3e7ec",
    ("#0072b2", "#d55e00", "#009e73", "#b8559a", "#e69f00", "#3ea4df", "#4d4d4d"), "#0072b2", "#d55e00",
)  # fmt: skip
DARK = Theme(
    "dark", "#171c23", "#e6eaf0", "#9aa6b5", "#2c343f",
    ("#56b4e9", "#f2784b", "#2cc295", "#e69ac3", "#e6b422", "#a3c9f5", "#b8bec6"), "#56b4e9", "#f2784b",
)  # fmt: skip
Dashes = Literal["-", "--", "-.", ":"]
Look = tuple[str, Dashes]  # colour and line style
_LONGEST, _LETTERS_PER_INCH = 60, 15  # of a legend's labels
STYLES: tuple[Dashes, ...] = ("-", "--", "-.", ":")


def new_figure(
    theme: Theme, columns: int, size: tuple[float, float], widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of ``size`` inches with styled axes side by side, as wide as ``widths`` say to each other."""
    figure = Figure(figsize=size, dpi=150, facecolor=theme.surface, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, columns, width_ratios=widths)
    axes = [figure.add_subplot(grid[column]) for column in range(columns)]
    for ax in axes:
        style(ax, theme)
    return figure, axes


def style(ax: Axes, theme: Theme) -> None:
    """Quiet axes: two spines, a light grid behind the curves."""
    ax.set_facecolor(theme.surface)
    ax.grid(True, color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(theme.muted)
    ax.tick_params(which="both", colors=theme.muted, labelsize=8.5, length=3)


def titles(ax: Axes, theme: Theme, x: str, y: str, title: str = "") -> None:
    """Axis labels, and a title at the left."""
    ax.set_xlabel(x, color=theme.text, fontsize=9.5)
    ax.set_ylabel(y, color=theme.text, fontsize=9.5)
    if title:
        ax.set_title(title, color=theme.text, fontsize=10.5, loc="left", fontweight="bold")


def legend(figure: Figure, theme: Theme, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend below the axes, for which the figure grows.

    It shows names as they are: no mathematics in dollars, no name hidden for its underscore; only long ones are cut.
    """
    cut = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label in labels]
    shown = [f" {label}" if label.startswith("_") else label for label in cut]
    letters = max(map(len, shown)) + 7  # the line before a label and the space after it are about as wide as these
    columns = max(1, min(len(shown), int(figure.get_figwidth() * _LETTERS_PER_INCH / letters)))
    lines = -(-len(shown) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * lines)
    place = "outside lower left"
    box = figure.legend(handles, shown, loc=place, fontsize=8.5, frameon=False, labelcolor=theme.text, ncols=columns)  # type: ignore[call-overload]
    for text in box.get_texts():
        text.set_parse_math(False)


def curve_look(theme: Theme, number: int) -> Look:
    """Colour and line style of the curve with this number; they repeat after all pairs of both."""
    colours = len(theme.palette)
    return theme.palette[number % colours], STYLES[number // colours % len(STYLES)]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, laid out and drawn once: ``savefig`` does both twice, which a short run would wait for."""
    canvas: Any = figure.canvas  # of matplotlib's untyped Agg backend
    canvas.draw()
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(buffer, format="png", dpi=(figure.dpi, figure.dpi), compress_level=2)
    return buffer.getvalue()
