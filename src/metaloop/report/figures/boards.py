"""Boards of symbols as pictures: tiles, trails, and the episodes of some tasks beside each other, still and moving."""

import io
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageColor, ImageDraw, ImageFont

from metaloop.control.environments.drawings import BALL, DOOR, FREE, GOAL, KEY, PADDLE, PLAYER, WALL, Drawing
from metaloop.records.tables import Array
from metaloop.records.trajectories import Trajectories
from metaloop.report.figures.theme import Theme

TRAILS: Mapping[str, str] = {PLAYER: "+", BALL: "'"}  # where what moves has been
NAMES: Mapping[str, str] = {
    PLAYER: "player", PADDLE: "paddle", BALL: "ball", GOAL: "goal", KEY: "key", DOOR: "door", WALL: "wall",
}  # fmt: skip
FRAME, END = 150, 1500  # milliseconds that a state and the last one are shown
_FRAMES = 60  # of a moving picture, about
_SCALE = 2  # pixels for each of the page
_BOARD, _GAP, _LINE, _LEFT = 132, 14, 18, 4  # pixels of the page: a board's longer side, about; between boards; text; margin
_COLORS, _CLOSE = 48, 24  # of a moving picture; sum of the differences of two colors that count as one


def with_trail(drawings: Sequence[Drawing]) -> Drawing:
    """The last drawing, with marks on the free places where the player, or the ball, has been before."""
    board = [list(row) for row in drawings[-1]]
    for drawing in drawings[:-1]:
        for row, symbols in enumerate(drawing):
            for column, symbol in enumerate(symbols):
                if symbol in TRAILS and board[row][column] == FREE:
                    board[row][column] = TRAILS[symbol]
    return ["".join(row) for row in board]


def board(drawing: Drawing, side: int, theme: Theme) -> Array:
    """The pixels (rows * side, columns * side, 3) uint8 of a drawing."""
    tiles = _tiles(side, theme)
    rows = [np.concatenate([tiles.get(symbol, tiles[FREE]) for symbol in row], 1) for row in drawing]
    return np.concatenate(rows)


@cache
def _tiles(side: int, theme: Theme) -> Mapping[str, Array]:
    """The pixels of each symbol; drawn four times as large and made smaller, which smooths edges."""
    return {
        symbol: np.asarray(_tile(symbol, 4 * side, theme).resize((side, side), Image.Resampling.BOX)) for symbol in _SYMBOLS
    }


_SYMBOLS = (*NAMES, FREE, *TRAILS.values())


def _tile(symbol: str, side: int, theme: Theme) -> Image.Image:
    """A disc for what moves by itself or is moved, a star for the goal, bars and frames for the rest; trails are small dots."""
    image = Image.new("RGB", (side, side), theme.surface)
    draw, player, second = ImageDraw.Draw(image), theme.palette[0], theme.palette[1]
    draw.rectangle(_inside(side, 0.03), fill=theme.muted if symbol == WALL else theme.grid)
    if symbol == PLAYER:
        draw.ellipse(_inside(side, 0.16), fill=player)
    elif symbol == BALL:
        draw.ellipse(_inside(side, 0.2), fill=second)
    elif symbol == TRAILS[PLAYER]:
        draw.ellipse(_inside(side, 0.36), fill=player)
    elif symbol == TRAILS[BALL]:
        draw.ellipse(_inside(side, 0.38), fill=second)
    elif symbol == PADDLE:
        draw.rectangle((0.06 * side, 0.36 * side, 0.94 * side, 0.64 * side), fill=player)
    elif symbol == GOAL:
        draw.polygon(_star(side), fill=second)
    elif symbol == KEY:
        draw.ellipse(_inside(side, 0.24), outline=theme.palette[4], width=max(1, side // 8))
    elif symbol == DOOR:
        draw.rectangle(_inside(side, 0.2), outline=theme.palette[3], width=max(1, side // 9))
    return image


def _inside(side: int, margin: float) -> tuple[float, float, float, float]:
    return margin * side, margin * side, (1 - margin) * side, (1 - margin) * side


def _star(side: int) -> list[tuple[float, float]]:
    angles = np.pi * np.arange(10) / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 0.19, 0.45)
    return [(side * (0.5 + r * np.cos(a)), side * (0.52 + r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


class BoardPictures:
    """Episodes of some tasks, one row for each task and one column for each episode, at any time of the episodes.

    Args:
        trajectories: episodes with drawings.
        theme: colors.
    """

    def __init__(self, trajectories: Trajectories, theme: Theme) -> None:
        self.theme = theme
        self.tasks = trajectories.tasks
        shape = self.tasks[0].episodes[0].drawings[0]
        self.side = max(3, _SCALE * _BOARD // max(len(shape), len(shape[0])))
        self.height, self.width = self.side * len(shape), self.side * len(shape[0])
        self.steps = max(len(episode.drawings) for task in self.tasks for episode in task.episodes)  # one for each state
        symbols = {s for task in self.tasks for e in task.episodes for d in e.drawings for row in d for s in row}
        self.names = [(symbol, name) for symbol, name in NAMES.items() if symbol in symbols]

    @property
    def page_width(self) -> int:
        """Width in pixels of the page."""
        return self._size()[0] // _SCALE

    def _size(self) -> tuple[int, int]:
        rows, columns = len(self.tasks), len(self.tasks[0].episodes)
        width = _SCALE * (2 * _LEFT) + columns * (self.width + _SCALE * _GAP) - _SCALE * _GAP
        return max(width, _SCALE * 330), rows * (self.height + _SCALE * (_LINE + _GAP)) + _SCALE * 2 * _LINE

    def picture(self, time: int) -> Image.Image:
        """All episodes after so many steps; those that have ended stay as they are."""
        image = Image.new("RGB", self._size(), self.theme.surface)
        draw = ImageDraw.Draw(image)
        for row, task in enumerate(self.tasks):
            top = _SCALE * _LINE + row * (self.height + _SCALE * (_LINE + _GAP))
            for column, episode in enumerate(task.episodes):
                left = _SCALE * _LEFT + column * (self.width + _SCALE * _GAP)
                if row == 0:
                    draw.text((left, _SCALE), episode.name, fill=self.theme.text, font=_font(bold=True))
                steps = min(time, len(episode.rewards))
                total = f"{sum(episode.rewards[:steps]):.2f}".replace("-", "−")
                draw.text((left, top), f"task {task.number}: {total}", fill=self.theme.text, font=_font())
                trail = with_trail([list(drawing) for drawing in episode.drawings[: time + 1]])
                image.paste(Image.fromarray(board(trail, self.side, self.theme)), (left, top + _SCALE * _LINE))
        self._legend(image, draw)
        return image

    def _legend(self, image: Image.Image, draw: ImageDraw.ImageDraw) -> None:
        left, top, side = _SCALE * _LEFT, image.height - _SCALE * _LINE, _SCALE * 11
        for symbol, name in self.names:
            image.paste(Image.fromarray(board([symbol], side, self.theme)), (left, top + _SCALE * 2))
            draw.text((left + side + _SCALE * 4, top), name, fill=self.theme.muted, font=_font())
            left += side + _SCALE * 14 + int(draw.textlength(name, font=_font()))

    def still(self) -> bytes:
        """A PNG of the ends of all episodes."""
        file = io.BytesIO()
        self.picture(self.steps).save(file, "PNG", dpi=(96 * _SCALE, 96 * _SCALE))
        return file.getvalue()

    def moving(self) -> bytes:
        """A GIF in which the episodes begin together; of long ones it leaves out steps."""
        palette = _with_color(self.picture(self.steps).quantize(_COLORS), self.theme.surface)
        shown = [*range(0, self.steps - 1, -(-self.steps // _FRAMES)), self.steps - 1]
        frames = [self.picture(time).quantize(palette=palette, dither=Image.Dither.NONE) for time in shown]
        times = [FRAME] * (len(frames) - 1) + [END]
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
        return file.getvalue()


def _with_color(image: Image.Image, color: str) -> Image.Image:
    """The image with the colors of its palette that are close to this one, which the page has around it, replaced by it."""
    exact = np.array(ImageColor.getrgb(color))
    palette = np.array(image.getpalette()).reshape(-1, 3)
    palette[np.abs(palette - exact).sum(1) < _CLOSE] = exact
    image.putpalette(palette.flatten().tolist())
    return image


@cache
def _font(bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that figures have."""
    return ImageFont.truetype(findfont(f"DejaVu Sans{':bold' if bold else ''}"), 10 * _SCALE + _SCALE // 2)
