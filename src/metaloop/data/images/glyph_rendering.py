"""Rendering of letters from matplotlib's DejaVu fonts as small grey images."""

import hashlib
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from metaloop.data.philox import Stream
from metaloop.errors import UserError

FACES = (
    "DejaVuSans",
    "DejaVuSerif",
    "DejaVuSansMono",
    "DejaVuSans-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono-BoldOblique",
)
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN")
DRAWINGS = 24  # of a letter: every face twice
SIDE = 28  # pixels
_CATEGORIES = ("Lu", "Ll", "Lt", "Lo")  # all letters but modifier letters (Lm), which are raised copies of others
_SCALE = 2  # letters are drawn and transformed at this scale, then averaged
_EM = 24  # size of a font's em in the final image, in pixels
_MAX_LETTER = 22  # pixels; a larger letter is shrunk to this
# The jitter of a drawing is uniform between minus and plus these values (degrees, ratio, ratio, pixels):
_TURN, _SHEAR, _ZOOM, _SHIFT = 8.0, 0.12, 0.10, 1.5
_THICKEN = 0.7  # the ink spreads by up to this part of a pixel of the enlarged drawing

Inks = list[np.ndarray]  # a letter in each face, uint8, enlarged and cropped to the ink


def font_paths() -> list[Path]:
    """The paths of the font files of :data:`FACES`.

    Raises:
        UserError: a font is missing from the installed matplotlib.
    """
    package = find_spec("matplotlib")  # does not import it
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    paths = [folder / f"{face}.ttf" for face in FACES]
    for path in paths:
        if not path.is_file():
            raise UserError(f"dataset=glyphs needs the fonts of matplotlib, but {path} is missing: reinstall matplotlib")
    return paths


def font_digest() -> str:
    """SHA-256 of the font files. The images depend on these, on this code, and on the version of FreeType."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in font_paths())).hexdigest()


def letters() -> dict[str, list[str]]:
    """The letters of each script in :data:`SCRIPTS` that every face has a glyph for, in the order of Unicode."""
    maps = []
    for path in font_paths():
        with TTFont(path, lazy=True) as font:
            maps.append(set(font.getBestCmap()))
    by_script: dict[str, list[str]] = {script: [] for script in SCRIPTS}
    for letter in map(chr, sorted(set.intersection(*maps))):
        script = unicodedata.name(letter, "").split(" ")[0]
        if script in by_script and unicodedata.category(letter) in _CATEGORIES:
            by_script[script].append(letter)
    return by_script


def draw(letters: Sequence[str]) -> dict[str, Inks]:
    """Draw each letter in each face, without jitter."""
    # The basic layout engine does not depend on what else is installed.
    basic = ImageFont.Layout.BASIC
    fonts = [ImageFont.truetype(str(path), _EM * _SCALE, layout_engine=basic) for path in font_paths()]
    return {letter: [_ink(letter, font) for font in fonts] for letter in letters}


def _ink(letter: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    left, top, right, bottom = font.getbbox(letter, anchor="ls")
    image = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), letter, 255, font, anchor="ls")
    return np.asarray(image.crop(image.getbbox()))


def render(classes: Sequence[tuple[str, Inks]]) -> np.ndarray:
    """Render the drawings (classes, DRAWINGS, SIDE, SIDE) uint8 of letters, ink 255 on 0.

    Each drawing is slightly turned, sheared, zoomed, thickened and shifted about the middle of the image. The jitter is a
    function of the letter alone.
    """
    numbers = torch.tensor([ord(letter) for letter, _ in classes])
    jitter = Stream(0, "glyphs").uniform(numbers, DRAWINGS * 6, "jitter").view(-1, DRAWINGS, 6)
    return np.stack([_jitter(inks, u) for (_, inks), u in zip(classes, jitter, strict=True)])


def _jitter(inks: Inks, jitter: Tensor) -> np.ndarray:
    """The drawings (DRAWINGS, SIDE, SIDE) uint8 of one letter, given their jitter (DRAWINGS, 6) in [0, 1)."""
    ink = _center(inks)
    growth = functional.max_pool2d(ink, 3, 1, 1) - ink
    size = torch.tensor([min(1.0, _MAX_LETTER * _SCALE / max(one.shape)) for one in inks], dtype=torch.float64)
    drawings = []
    for u in torch.split(jitter, len(inks)):  # each part has every face once
        thickened = torch.addcmul(ink, growth, (_THICKEN * u[:, 5]).view(-1, 1, 1, 1))
        grid = _sampling_grid(u[:, :5] * 2 - 1, size, ink.shape[-1])
        moved = functional.grid_sample(thickened, grid, align_corners=False)
        drawings.append(functional.avg_pool2d(moved, _SCALE)[:, 0])
    # float64 up to this point, so that rounding to whole greys gives the same result on every machine
    return torch.cat(drawings).round().to(torch.uint8).numpy()


def _center(inks: Inks) -> Tensor:
    """Place each ink in the middle of a square that fits the largest and a margin: (faces, 1, side, side) float64."""
    side = max(max(ink.shape) for ink in inks) + 2
    square = torch.zeros(len(inks), 1, side, side, dtype=torch.float64)
    for face, ink in enumerate(inks):
        top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
        square[face, 0, top : top + ink.shape[0], left : left + ink.shape[1]] = torch.from_numpy(ink.copy())
    return square


def _sampling_grid(jitter: Tensor, size: Tensor, source: int) -> Tensor:
    """The position in the source square for each pixel of the image, (faces, side, side, 2) in [-1, 1].

    Args:
        jitter: (faces, 5) in [-1, 1]: turn, shear, zoom, shift to the right and down.
        size: (faces,) scale of each letter.
        source: side of the source square, in pixels.
    """
    turn, shear, zoom, right, down = jitter.unbind(-1)
    angle, scale = torch.deg2rad(_TURN * turn), size * (1 + _ZOOM * zoom) * source / 2
    a, b = angle.cos() / scale, (angle.sin() + _SHEAR * shear) / scale
    c, d = -angle.sin() / scale, angle.cos() / scale
    line = torch.arange(SIDE * _SCALE, dtype=torch.float64) + 0.5 - SIDE * _SCALE / 2
    x = (line - _SCALE * _SHIFT * right[:, None])[:, None, :]
    y = (line - _SCALE * _SHIFT * down[:, None])[:, :, None]
    a, b, c, d = (value[:, None, None] for value in (a, b, c, d))
    return torch.stack([a * x + b * y, c * x + d * y], -1)
