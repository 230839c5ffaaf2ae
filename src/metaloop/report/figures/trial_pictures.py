"""Pictures of a trial for `metaloop play`: its paths as text, and a moving picture of its episodes after each other."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

from metaloop.control.environments.drawings import Drawing
from metaloop.report.figures.boards import END, FRAME, board, with_trail
from metaloop.report.figures.theme import LIGHT

_SIDE, _LINE = 240, 16  # pixels of the longer side, about, and of a line of text


def side_by_side(drawings: Sequence[Drawing], titles: Sequence[str], width: int) -> list[str]:
    """Lines with drawings of one size beside each other below their titles, as many in a row as fit into ``width``."""
    spread = [[" ".join(row) for row in drawing] for drawing in drawings]
    column = max(len(title) for title in titles) if not spread else max(len(spread[0][0]), *map(len, titles))
    fit, lines = max(1, (width + 3) // (column + 3)), []
    for first in range(0, len(spread), fit):
        some = slice(first, first + fit)
        lines.append("   ".join(title.ljust(column) for title in titles[some]).rstrip())
        rows = zip(*spread[some], strict=True)
        lines += ["   ".join(row.ljust(column) for row in each).rstrip() for each in rows] + [""]
    return lines


def moving_picture(episodes: Sequence[Sequence[Drawing]], titles: Sequence[Sequence[str]]) -> bytes:
    """Make a GIF of episodes after each other.

    Args:
        episodes: the drawings of each episode.
        titles: a line of text for each drawing.
    """
    frames, times = [], []
    for drawings, lines in zip(episodes, titles, strict=True):
        for place, line in enumerate(lines):
            frames.append(_frame(with_trail(drawings[: place + 1]), line))
            times.append(FRAME if place + 1 < len(lines) else END)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()


def _frame(drawing: Drawing, title: str) -> Image.Image:
    pixels = board(drawing, max(4, _SIDE // max(len(drawing), len(drawing[0]))), LIGHT)
    height, width, _ = pixels.shape
    picture = Image.new("RGB", (max(width, _SIDE), height + _LINE), LIGHT.surface)
    ImageDraw.Draw(picture).text((3, 2), title, fill=LIGHT.text)
    picture.paste(Image.fromarray(pixels), (0, _LINE))
    return picture.quantize(32)
