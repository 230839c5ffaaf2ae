"""Light and dark colors of figures, and their export to PNG. No global state of matplotlib is changed."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from PIL import Image


@dataclass(frozen=True)
class Theme:
    """One set of colors. The palettes follow Okabe and Ito: they are distinguishable with every kind of color vision.

    Attributes:
        surface: background of the figure.
        text, muted, grid: colors of labels, of secondary lines and labels, and of the grid.
        palette: colors of curves, in this order.
        good, bad: colors of right and of wrong predictions, which also have a tick or a cross.
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
Look = tuple[str, Dashes]  # color and line style
MISSING = "□"  # in the place of a character that the font does not have
_LONGEST, _LETTERS_PER_INCH = 60, 15  # of a legend's labels: the most letters, and letters per inch
STYLES: tuple[Dashes, ...] = ("-", "--", "-.", ":")


def new_figure(
    theme: Theme, columns: int, size: tuple[float, float], widths: Sequence[float] | None = None, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``size`` inches with styled axes, row by row; ``widths`` are the relative widths of its columns."""
    figure = Figure(figsize=size, dpi=150, facecolor=theme.surface, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, columns, width_ratios=widths)
    axes = [figure.add_subplot(grid[place]) for place in range(rows * columns)]
    for ax in axes:
        style(ax, theme)
    return figure, axes


def style(ax: Axes, theme: Theme) -> None:
    """Style axes plainly: two spines, and a light grid behind the curves."""
    ax.set_facecolor(theme.surface)
    ax.grid(True, color=theme.grid, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(theme.muted)
    ax.tick_params(which="both", colors=theme.muted, labelsize=8.5, length=3)


def titles(ax: Axes, theme: Theme, x: str, y: str, title: str = "") -> None:
    """Set the axis labels, and a title on the left."""
    ax.set_xlabel(x, color=theme.text, fontsize=9.5)
    ax.set_ylabel(y, color=theme.text, fontsize=9.5)
    if title:
        ax.set_title(title, color=theme.text, fontsize=10.5, loc="left", fontweight="bold")


def legend(figure: Figure, theme: Theme, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Add a legend below the axes and enlarge the figure for it.

    Names are shown unchanged, without mathematics in dollars and without hiding names with an underscore. Long names are cut.
    """
    cut = [drawable(short(label, _LONGEST)) for label in labels]
    shown = [f" {label}" if label.startswith("_") else label for label in cut]
    letters = max(map(len, shown)) + 7  # a label's line and spacing are about seven letters wide
    columns = max(1, min(len(shown), int(figure.get_figwidth() * _LETTERS_PER_INCH / letters)))
    lines = -(-len(shown) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * lines)
    place = "outside lower left"
    box = figure.legend(handles, shown, loc=place, fontsize=8.5, frameon=False, labelcolor=theme.text, ncols=columns)  # type: ignore[call-overload]
    for text in box.get_texts():
        text.set_parse_math(False)


def short(name: str, most: int) -> str:
    """Cut a long name."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def drawable(name: str) -> str:
    """Replace the characters that matplotlib's font does not have, of which it would warn, by empty boxes."""
    return "".join(letter if ord(letter) in _characters() else MISSING for letter in name)


@cache
def _characters() -> frozenset[int]:
    """Characters of the font that figures have."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def curve_look(theme: Theme, number: int) -> Look:
    """Color and line style of the curve with this number; they repeat after all pairs of both."""
    colors = len(theme.palette)
    return theme.palette[number % colors], STYLES[number // colors % len(STYLES)]


def png(figure: Figure) -> bytes:
    """Encode a figure as a PNG. It is laid out and drawn once; ``savefig`` does both twice, which delays a short run."""
    canvas: Any = figure.canvas  # matplotlib's Agg backend is untyped
    canvas.draw()
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(buffer, format="png", dpi=(figure.dpi, figure.dpi), compress_level=2)
    return buffer.getvalue()
