"""Figures inside a page: inline, and each in a light and a dark version that the reader's system chooses from."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from metaloop.report.theme import DARK, LIGHT, Theme, png

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
    light, dark = (base64.b64encode(png(figure)).decode() for figure in figures if figure is not None)
    return Picture(light, dark, alt, round(96 * figures[0].get_figwidth()))
