"""Letters drawn from the DejaVu fonts that matplotlib ships, as small grey pictures."""

import hashlib
import unicodedata
from collections.abc import Sequence
from math import cos, radians, sin
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

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
_DRAWN = 4  # a letter is drawn this much larger, so that a stroke can grow by parts of a pixel,
_MOVED = 2  # moved when only this much larger, which takes a quarter of the time, and averaged to its size
_EM = 24  # pixels of the final picture that a font's em takes
_LARGEST = 24  # pixels; a larger letter is shrunk to this
# The jitter of a drawing, uniform in plus or minus these:
_TURN, _SHEAR, _ZOOM, _SHIFT = 8.0, 0.12, 0.10, 1.5  # degrees, ratio, ratio, pixels
_STROKES = 2  # stroke widths 0 or 1, in pixels of the enlarged drawing, on either side of a stem


def font_paths() -> list[Path]:
    """The files of :data:`FACES`.

    Raises:
        UserError: this matplotlib came without one of them.
    """
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
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


def pictures(letter: str, fonts: Sequence[ImageFont.FreeTypeFont]) -> list[bytes]:
    """The letter in each face at its final size, cut to the ink: equal bytes are one picture."""
    drawn = [_ink(letter, font, 0) for font in fonts]
    return [repr(picture.size).encode() + picture.tobytes() for picture in drawn]


def load_fonts(size: int) -> list[ImageFont.FreeTypeFont]:
    """One font a face; the basic layout engine does not depend on what else is installed."""
    return [ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC) for path in font_paths()]


def plain_fonts() -> list[ImageFont.FreeTypeFont]:
    """The fonts at the size of the final pictures, for :func:`pictures`."""
    return load_fonts(_EM)


def render(chosen: Sequence[str]) -> np.ndarray:
    """(letters, DRAWINGS, SIDE, SIDE) uint8, ink 255 on 0; a pure function of the letters, the fonts and FreeType."""
    fonts = load_fonts(_EM * _DRAWN)
    numbers = torch.tensor([ord(letter) for letter in chosen])
    jitter = Stream(0, "glyphs").uniform(numbers, DRAWINGS * 6, "jitter").view(len(chosen), DRAWINGS, 6).tolist()
    images = np.empty((len(chosen), DRAWINGS, SIDE, SIDE), np.uint8)
    for c, letter in enumerate(chosen):
        for d in range(DRAWINGS):
            images[c, d] = _drawing(letter, fonts[d % len(fonts)], jitter[c][d])
    return images


def _ink(letter: str, font: ImageFont.FreeTypeFont, stroke: int) -> Image.Image:
    """The letter alone, cut to its ink."""
    left, top, right, bottom = font.getbbox(letter, anchor="ls", stroke_width=stroke)
    picture = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), letter, 255, font, anchor="ls", stroke_width=stroke)
    return picture.crop(picture.getbbox())


def _drawing(letter: str, font: ImageFont.FreeTypeFont, jitter: Sequence[float]) -> np.ndarray:
    """One drawing: turned, sheared, zoomed, thickened and shifted a little about the middle of the picture."""
    ink = _ink(letter, font, int(jitter[5] * _STROKES)).reduce(_DRAWN // _MOVED)
    turn, shear, zoom, right, down = (2 * u - 1 for u in jitter[:5])
    size = min(1.0, _LARGEST * _MOVED / max(ink.size)) * (1 + _ZOOM * zoom)
    angle = radians(_TURN * turn)
    # Pillow asks for the way back, from a place of the new picture to one of the old.
    a, b = cos(angle) / size, (sin(angle) + _SHEAR * shear) / size
    c, d = -sin(angle) / size, cos(angle) / size
    side = SIDE * _MOVED
    x, y = side / 2 + _SHIFT * _MOVED * right, side / 2 + _SHIFT * _MOVED * down
    back = (a, b, ink.width / 2 - a * x - b * y, c, d, ink.height / 2 - c * x - d * y)
    large = ink.transform((side, side), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    return np.asarray(large.reduce(_MOVED))
