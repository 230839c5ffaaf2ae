"""Pictures of an episode from its drawings: its path as text, and a moving picture."""

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from metaloop.control.environments.drawings import BALL, DOOR, FREE, GOAL, KEY, PADDLE, PLAYER, WALL, Drawing

TRAILS: Mapping[str, str] = {PLAYER: "+", BALL: "'"}  # where what moves has been
_COLORS: Mapping[str, tuple[int, int, int]] = {
    FREE: (245, 245, 242), WALL: (90, 90, 98), PLAYER: (0, 114, 178), GOAL: (0, 158, 115), KEY: (230, 159, 0),
    DOOR: (204, 121, 167), BALL: (213, 94, 0), PADDLE: (0, 114, 178), "+": (170, 205, 230), "'": (245, 205, 175),
}  # fmt: skip
_SIDE, _LINE = 240, 16  # pixels of the longer side, about, and of a line of text
_FRAME, _END = 150, 900  # milliseconds that a state and the last of an episode are shown


def with_trail(drawings: Sequence[Drawing]) -> Drawing:
    """The last drawing, with marks on the free places where the player, or the ball, has been before."""
    board = [list(row) for row in drawings[-1]]
    for drawing in drawings[:-1]:
        for row, symbols in enumerate(drawing):
            for column, symbol in enumerate(symbols):
                if symbol in TRAILS and board[row][column] == FREE:
                    board[row][column] = TRAILS[symbol]
    return ["".join(row) for row in board]


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
            times.append(_FRAME if place + 1 < len(lines) else _END)
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()


def _frame(drawing: Drawing, title: str) -> Image.Image:
    height, width = len(drawing), len(drawing[0])
    side = max(4, _SIDE // max(height, width))
    picture = Image.new("RGB", (max(side * width, _SIDE), side * height + _LINE), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    draw.text((3, 2), title, fill=(40, 40, 44))
    for row, symbols in enumerate(drawing):
        for column, symbol in enumerate(symbols):
            left, top = column * side, row * side + _LINE
            draw.rectangle((left, top, left + side - 2, top + side - 2), fill=_COLORS[symbol])
    return picture.quantize(16)
