"""Conversion of image files with 16 bits a channel to 8 bits. Their value of white is often not 65535, and is never guessed."""

import numpy as np
from PIL import Image, ImageOps

FULL = 65535  # white of 16 bits
_USUAL = (8, 10, 12, 14, 15)  # bits of cameras and scanners whose files have 16
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # place in a PNG file of the bits a channel
_TIFF_DEPTH, _TIFF_MEANING = 258, 262  # tags: bits of each channel, and what values mean
_TIFF_INVERTED = 0  # meaning of values where white is 0
_UNKNOWN = "more than 8 bits a channel with an unknown value range; convert it to 8 bits"


def eight_bits(image: Image.Image, content: bytes, white: int | None) -> Image.Image:
    """Turn an image upright, and scale more than 8 bits a channel, which Pillow would clip or cut, to 8 bits.

    Grey values are rounded. Of colours, Pillow reads the upper 8 of 16 bits, so they are only read if they use all 16.

    Args:
        image: the opened image, not yet loaded.
        content: its file.
        white: value of white; None if it is known from the file or from values that need all bits.

    Raises:
        ValueError: the value of white is not known, or values are above it.
    """
    depth, scaled = _depth(image, content), image.format == "PPM"  # Pillow scales PPM by the file's own value of white
    inverted = image.format == "TIFF" and _tag(image, _TIFF_MEANING) == _TIFF_INVERTED
    if image.mode == "F" or (image.mode == "I" and not scaled):
        raise ValueError(_UNKNOWN)
    upright = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _grey(upright, FULL if scaled else 2**depth - 1 if depth < 16 else white, inverted=inverted)
    if depth > 8:
        _check_colors(upright, white)
    return upright


def _depth(image: Image.Image, content: bytes) -> int:
    """Bits a channel as the file says, 8 where it does not."""
    if content.startswith(_PNG):
        return content[_PNG_DEPTH]
    return int(_tag(image, _TIFF_DEPTH)) if image.format == "TIFF" else 8


def _tag(image: Image.Image, number: int) -> int:
    value = image.tag_v2.get(number, 8 if number == _TIFF_DEPTH else 1)  # type: ignore[attr-defined]
    return int(max(value) if isinstance(value, tuple) else value)


def _grey(image: Image.Image, white: int | None, *, inverted: bool = False) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    clear = image.info.get("transparency")
    top = int(values.max(initial=0, where=values != (-1 if clear is None else clear)))
    if white is None:
        _check_range("greys", top)
        white = FULL
    if top > white:
        raise ValueError(f"greys of 16 bits up to {top}, above white, dataset.white={white}")
    grey = ((values * 255 + white // 2) // white).astype(np.uint8)
    if inverted:
        grey = 255 - grey
    return Image.fromarray(grey if clear is None else np.where(values == clear, np.uint8(255), grey))


def _check_range(what: str, top: int) -> None:
    """Raise a ValueError if the largest value is that of fewer than 16 bits. Where all is black, white does not matter."""
    bits = next((bits for bits in _USUAL if top < 2**bits), 16)
    if top and bits < 16:
        raise ValueError(
            f"{what} of 16 bits up to {top}, as if of {bits} bits: set dataset.white to the value of white ({2**bits - 1} for "
            f"{bits} bits, {FULL} if it is only dark), or convert it to 8 bits"
        )


def _check_colors(image: Image.Image, white: int | None) -> None:
    """Raise a ValueError unless the upper 8 bits of 16 are the image, as far as its values show."""
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(_UNKNOWN)
    if white not in (None, FULL):
        raise ValueError(f"colours of 16 bits, which are read with dataset.white={FULL} only; convert it to 8 bits")
    top = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]
    if white is None and 0 < top < 128:
        raise ValueError(
            f"colours of 16 bits up to about {256 * top + 255}, as if of fewer bits: convert it to 8 bits, or set "
            f"dataset.white={FULL} if it is only dark"
        )
