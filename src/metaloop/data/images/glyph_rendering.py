"""Letters drawn from the DejaVu fonts that matplotlib ships, as small grey pictures."""

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
DRAWINGS = 24  # every face twice
SIDE = 28  # pixels
_CATEGORIES = ("Lu", "Ll", "Lt", "Lo")  # letters proper; modifier letters (Lm) are raised copies of them
_SCALE = 2  # letters are drawn and moved this much larger, then averaged
_EM = 24  # pixels of the final picture that a font's em takes
_LARGEST = 22  # pixels; a larger letter is shrunk to this
# The jitter of a drawing:
_TURN, _SHEAR, _ZOOM, _SHIFT = 8.0, 0.12, 0.10, 1.5  # degrees, ratio, ratio, pixels: uniform in plus or minus these
_THICKEN = 0.7  # how far the ink spreads, up to this part of a pixel of the enlarged drawing

Inks = list[np.ndarray]  # a letter in each face, uint8, enlarged and cut to the ink


def font_paths() -> list[Path]:
    """The files of :data:`FACES`.

    Raises:
        UserError: this matplotlib came without one of them.
    """
    package = find_spec("matplotlib")  # finding it does not run it
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    paths = [folder / f"{face}.ttf" for face in FACES]
    for path in paths:
        if not path.is_file():
            raise UserError(f"dataset=glyphs needs the fonts that matplotlib ships; {path} is missing: reinstall matplotlib")
    return paths


def font_digest() -> str:
    """SHA-256 over the font files: what the pictures depend on beside this code and the FreeType that draws them."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in font_paths())).hexdigest()


def letters() -> dict[str, list[str]]:
    """The letters of each of :data:`SCRIPTS` that every face has a glyph for, in the order of Unicode."""
    maps = []
    for path in font_paths():
        with TTFont(path, lazy=True) as font:
            maps.append(set(font.getBestCmap()))
    found: dict[str, list[str]] = {script: [] for script in SCRIPTS}
    for letter in map(chr, sorted(set.intersection(*maps))):
        script = unicodedata.name(letter, "").split(" ")[0]
        if script in found and unicodedata.category(letter) in _CATEGORIES:
            found[script].append(letter)
    return found


def draw(chosen: Sequence[str]) -> dict[str, Inks]:
    """Each letter as the fonts have it, without jitter."""
    # The basic layout engine does not depend on what else is installed.
    basic = ImageFont.Layout.BASIC
    fonts = [ImageFont.truetype(str(path), _EM * _SCALE, layout_engine=basic) for path in font_paths()]
    return {letter: [_ink(letter, font) for font in fonts] for letter in chosen}


def _ink(letter: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    left, top, right, bottom = font.getbbox(letter, anchor="ls")
    picture = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), letter, 255, font, anchor="ls")
    return np.asarray(picture.crop(picture.getbbox()))


def render(classes: Sequence[tuple[str, Inks]]) -> np.ndarray:
    """(classes, DRAWINGS, SIDE, SIDE) uint8, ink 255 on 0: a pure function of the letters and how the fonts draw them.

    Each drawing is turned, sheared, zoomed, thickened and shifted a little about the middle of the picture.
    """
    numbers = torch.tensor([ord(letter) for letter, _ in classes])
    jitter = Stream(0, "glyphs").uniform(numbers, DRAWINGS * 6, "jitter").view(-1, DRAWINGS, 6)
    return np.stack([_jittered(inks, u) for (_, inks), u in zip(classes, jitter, strict=True)])


def _jittered(inks: Inks, jitter: Tensor) -> np.ndarray:
    """(DRAWINGS, SIDE, SIDE) uint8: one letter, with the jitter (DRAWINGS, 6) in [0, 1) of its drawings."""
    ink = _centred(inks)
    growth = functional.max_pool2d(ink, 3, 1, 1) - ink
    size = torch.tensor([min(1.0, _LARGEST * _SCALE / max(one.shape)) for one in inks], dtype=torch.float64)
    drawings = []
    for u in jitter.split(len(inks)):  # every face once
        thickened = torch.addcmul(ink, growth, (_THICKEN * u[:, 5]).view(-1, 1, 1, 1))
        places = _places(u[:, :5] * 2 - 1, size, ink.shape[-1])
        moved = functional.grid_sample(thickened, places, align_corners=False)
        drawings.append(functional.avg_pool2d(moved, _SCALE)[:, 0])
    # float64 up to here, so that rounding to whole greys comes out the same on every machine
    return torch.cat(drawings).round().to(torch.uint8).numpy()


def _centred(inks: Inks) -> Tensor:
    """(faces, 1, side, side) float64: each ink in the middle of a square that holds the largest and a margin."""
    side = max(max(ink.shape) for ink in inks) + 2
    square = torch.zeros(len(inks), 1, side, side, dtype=torch.float64)
    for face, ink in enumerate(inks):
        top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
        square[face, 0, top : top + ink.shape[0], left : left + ink.shape[1]] = torch.from_numpy(ink.copy())
    return square


def _places(jitter: Tensor, size: Tensor, source: int) -> Tensor:
    """(faces, side, side, 2): where in the square of ``source`` pixels the ink of each place of the picture lies.

    The square reaches from -1 to 1; ``jitter`` (faces, 5) too.
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
