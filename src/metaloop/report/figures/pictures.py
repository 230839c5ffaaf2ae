"""Inline figures of a page, each in a light and a dark version; the browser chooses by the system's color scheme."""

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
        light, dark: base64 of the PNG for light and for dark pages.
        alt: alternative text for readers who do not see the picture.
        width: width in CSS pixels.
        moving_light, moving_dark: base64 of a GIF, which readers see who have not asked for less motion; empty without one.
    """

    light: str
    dark: str
    alt: str
    width: int
    moving_light: str = ""
    moving_dark: str = ""


def picture(draw: Draw, alt: str) -> Picture | None:
    """Draw a figure in both themes; None if there is nothing to draw."""
    figures = [draw(theme) for theme in (LIGHT, DARK)]
    if figures[0] is None or figures[1] is None:
        return None
    light = png(figures[0])
    _lay_out_alike(figures[0], figures[1])
    encoded = [base64.b64encode(each).decode() for each in (light, png(figures[1]))]
    return Picture(encoded[0], encoded[1], alt, round(96 * figures[0].get_figwidth()))


def _lay_out_alike(drawn: Figure, other: Figure) -> None:
    """Copy the layout of a drawn figure to the same figure in other colors, as computing it takes as long as drawing."""
    if other.get_layout_engine() is None:
        return
    other.set_layout_engine("none")
    for source, target in zip(drawn.axes, other.axes, strict=True):
        target.set_position(source.get_position())
