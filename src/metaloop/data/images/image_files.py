"""Image files, read from folders or zip archives and decoded to equal squares. Workers import this module: no torch here."""

import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from metaloop.data.files.archives import RESAMPLING, Unreadable
from metaloop.data.files.pixel_depth import eight_bits

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
FITS = ("crop", "stretch")
MODES = {"color": 3, "grey": 1, "ink": 1}  # and their channels
_MAX_PIXELS = 100_000_000  # which decoded take 300 MB, and as much again on the way
_MAX_BYTES = 2**30  # of a file
_TIFF_KIND, _NO_PAGE = 254, 1 | 4  # tag; its bits of a smaller copy and of a mask
_STORED, _DEFLATED, _ENCRYPTED = 0, 8, 1
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., lengths of name and of extra field


class Entry(Protocol):
    """An image file; picklable."""

    def read(self) -> bytes:
        """Read the content; raises OSError or ValueError."""

    def stamp(self) -> str:
        """A text that changes when the content changes."""


@dataclass(frozen=True)
class FileEntry:
    """A file in a folder."""

    path: str

    def read(self) -> bytes:
        """See :class:`Entry`."""
        size = Path(self.path).stat().st_size
        if size > _MAX_BYTES:
            raise ValueError(f"{size:,} bytes; at most {_MAX_BYTES:,} are read")
        return Path(self.path).read_bytes()

    def stamp(self) -> str:
        """Size and modification time. Reading all images at every start would take minutes."""
        state = Path(self.path).stat()
        return f"{state.st_size} {state.st_mtime_ns}"


@dataclass(frozen=True)
class ZipEntry:
    """A file in a zip archive, read without parsing the archive's directory again, which is long."""

    path: str
    offset: int
    packed: int
    size: int
    method: int
    flags: int
    crc: int

    def read(self) -> bytes:
        """See :class:`Entry`."""
        if self.flags & _ENCRYPTED or self.method not in (_STORED, _DEFLATED):
            raise ValueError("encrypted, or compressed by a method other than deflate")
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise ValueError("the archive is damaged here")
            _, name, extra = _LOCAL_HEADER.unpack(header)
            file.seek(name + extra, os.SEEK_CUR)
            content = file.read(self.packed)
        if self.method == _DEFLATED:
            content = _inflate(content, self.size)
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise ValueError("its checksum is wrong: the archive is damaged")
        return content

    def stamp(self) -> str:
        """Size and checksum from the archive's directory."""
        return f"{self.size} {self.crc}"


def _inflate(content: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
    except zlib.error as error:
        raise ValueError(f"the archive is damaged ({error})") from error


@dataclass(frozen=True)
class Decode:
    """Decodes a list of images to (images, channels, side, side) uint8; picklable.

    Attributes:
        entries: the image files, by the names that messages use.
        side: side of the result, in pixels.
        fit: "crop" cuts out the middle square of an image that is not square, "stretch" squeezes the image to a square.
        resample: "lanczos" or "nearest".
        mode: "color" for three colours, "grey" for one channel with 255 for white, "ink" for one with 255 for black.
        white: value of white in grey images of 16 bits; None if the images use all bits, which is checked.
    """

    entries: Mapping[str, Entry]
    side: int
    fit: str
    resample: str = "lanczos"
    mode: str = "color"
    white: int | None = None

    def __call__(self) -> np.ndarray:
        """Decode all images.

        Raises:
            Unreadable: some images cannot be read.
        """
        images, faults = np.empty((len(self.entries), MODES[self.mode], self.side, self.side), np.uint8), []
        for image, (name, entry) in zip(images, self.entries.items(), strict=True):
            try:
                image[:] = decode(entry.read(), self.side, self.fit, self.resample, mode=self.mode, white=self.white)
            except (OSError, ValueError) as error:
                faults.append((name, str(error)))
        if faults:
            raise Unreadable(faults)
        return images


def decode(content: bytes, side: int, fit: str, resample: str, *, mode: str = "color", white: int | None = None) -> np.ndarray:
    """Decode one image to (channels, side, side) uint8; see :class:`Decode`.

    The image is rotated upright, and transparent parts become white. Of an animation, the first frame is read.

    Raises:
        ValueError: the image is not readable, too large, has several pages, or its value of white is unknown.
    """
    try:
        with _unlimited(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                pixels = f"{image.width}x{image.height} = {image.width * image.height:,} pixels"
                raise ValueError(f"{pixels}; at most {_MAX_PIXELS:,} are read")
            _check_pages(image)
            image.draft("RGB", (2 * side, 2 * side))  # decode a JPEG at a fraction of its size if that is enough
            upright = _over_white(eight_bits(image, content, white))
            if mode == "color":
                return np.asarray(_square(upright, side, fit, resample)).transpose(2, 0, 1)
            grey = np.asarray(_square(upright.convert("L"), side, fit, resample))[None]
            return 255 - grey if mode == "ink" else grey
    except UnidentifiedImageError as error:
        raise ValueError("not a readable image") from error
    except (OSError, SyntaxError, struct.error, EOFError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"not a readable image: {error}") from error  # Pillow raises all of these for broken files


def _check_pages(image: Image.Image) -> None:
    """Raise a ValueError for a TIFF file with further pages, which would be left out. Smaller copies and masks are none."""
    if image.format != "TIFF":
        return
    for number in count(1):
        try:
            image.seek(number)
        except EOFError:
            break
        if not image.tag_v2.get(_TIFF_KIND, 0) & _NO_PAGE:  # type: ignore[attr-defined]
            raise ValueError("several pages; save each that counts as a file of its own")
    image.seek(0)


@contextmanager
def _unlimited() -> Iterator[None]:
    """Lift Pillow's limit of pixels, which warns at nine tenths of ours and refuses without saying the size."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _over_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _square(image: Image.Image, side: int, fit: str, resample: str) -> Image.Image:
    width, height = image.size
    shorter = min(width, height)
    left, top = (width - shorter) / 2, (height - shorter) / 2
    box = (left, top, left + shorter, top + shorter) if fit == "crop" else (0, 0, width, height)
    return image.resize((side, side), RESAMPLING[resample], box=box)


def resize(images: np.ndarray, side: int) -> np.ndarray:
    """Resize square images (images, 3, n, n) uint8 to (images, 3, side, side)."""
    if images.shape[-1] == side:
        return images
    originals = [Image.fromarray(image) for image in images.transpose(0, 2, 3, 1)]
    return np.stack([np.asarray(_square(image, side, "stretch", "lanczos")).transpose(2, 0, 1) for image in originals])
