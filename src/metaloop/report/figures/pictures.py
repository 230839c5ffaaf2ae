"""Figures inside a page: inline, and each in a light and a dark version that the reader's system chooses from."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from metaloop.report.figures.theme import DARK, LIGHT, Theme, png

Draw = Callable[[Theme], Figure | None]


@dataclass(frozen=True)
class Picture:
    """An inline picture.

    Attributes:
        light: base64 of the PNG for light pages; ``dark``: for dark ones.
        alt: what a reader who does not see it should know.
        width: in CSS pixels.
    """

    light: str
    dark: str
    alt: str
    width: int


def picture(draw: Draw, alt: str) -> Picture | None:
    """Draw a figure in both themes; None where there is nothing to draw."""
    figures = [draw(theme) for theme in (LIGHT, DARK)]
    if figures[0] is None or figures[1] is None:
        return None
    light = png(figures[0])
    _lay_out_alike(figures[0], figures[1])
    encoded = [base64.b64encode(each).decode() for each in (light, png(figures[1]))]
    return Picture(encoded[0], encoded[1], alt, round(96 * figures[0].get_figwidth()))


def _lay_out_alike(drawn: Figure, other: Figure) -> None:
    """Give a figure the layout that its like in other colours was found to need, which takes as long as drawing it."""
    if other.get_layout_engine() is None:
        return
    other.set_layout_engine("none")
    for ax, alike in zip(drawn.axes, other.axes, strict=True):
        alike.set_position(ax.get_position())
