"""Pictures of any size and kind, in folders or zip archives, as equal squares of uint8. Workers import this: no torch."""

import io
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metaloop.data.files.archives import RESAMPLING, Origin, Unreadable, open_archive

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
FITS = ("crop", "stretch")
_MOST_PIXELS = 2**27  # more is a bomb, not a photograph
_STORED, _DEFLATED, _ENCRYPTED = 0, 8, 1
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., lengths of name and of extra field


class Entry(Protocol):
    """A file with a picture; picklable."""

    def read(self) -> bytes:
        """Its content; raises OSError or ValueError."""

    def stamp(self) -> str:
        """What changes when the content does."""


@dataclass(frozen=True)
class FileEntry:
    """A file of a folder."""

    path: str

    def read(self) -> bytes:
        """See :class:`Entry`."""
        return Path(self.path).read_bytes()

    def stamp(self) -> str:
        """Size and time of change; reading all pictures at every start would take minutes."""
        state = Path(self.path).stat()
        return f"{state.st_size} {state.st_mtime_ns}"


@dataclass(frozen=True)
class ZipEntry:
    """A file in a zip archive, found without the archive's directory, which is long."""

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
            raise ValueError("encrypted, or packed by a method other than deflate")
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                raise ValueError("the archive is damaged here")
            _, name, extra = _LOCAL_HEADER.unpack(header)
            file.seek(name + extra, os.SEEK_CUR)
            content = file.read(self.packed)
        if self.method == _DEFLATED:
            content = _inflated(content, self.size)
        if len(content) != self.size or zlib.crc32(content) != self.crc:
            raise ValueError("its checksum is wrong: the archive is damaged")
        return content

    def stamp(self) -> str:
        """Its size and checksum as the archive's directory says."""
        return f"{self.size} {self.crc}"


def _inflated(content: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
    except zlib.error as error:
        raise ValueError(f"the archive is damaged ({error})") from error


def find_pictures(path: Path, origin: Origin) -> dict[str, Entry]:
    """All pictures of a folder or zip archive by their place in it (``/`` between folders), sorted by name.

    Files of other kinds and hidden ones are no pictures.

    Raises:
        UserError: there is no such folder or archive, it is broken, or it holds no picture.
    """
    found = _in_folder(path) if path.is_dir() else _in_archive(path, origin)
    if not found:
        raise origin.problem(path, f"holds no pictures ({', '.join(SUFFIXES)})")
    return dict(sorted(found.items()))


def _is_picture(place: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in place.parts)
    return place.suffix.lower() in SUFFIXES and not hidden


def _in_folder(path: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for folder, _, names in os.walk(path, followlinks=True):
        inside = PurePosixPath(Path(folder).relative_to(path).as_posix())
        found.update({str(inside / name): FileEntry(f"{folder}/{name}") for name in names if _is_picture(inside / name)})
    return found


def _in_archive(path: Path, origin: Origin) -> dict[str, Entry]:
    with open_archive(path, origin) as archive:
        return {
            entry.filename: ZipEntry(
                str(path),
                entry.header_offset,
                entry.compress_size,
                entry.file_size,
                entry.compress_type,
                entry.flag_bits,
                entry.CRC,
            )
            for entry in archive.infolist()
            if not entry.is_dir() and _is_picture(PurePosixPath(entry.filename))
        }


@dataclass(frozen=True)
class Decode:
    """Reads some pictures as (pictures, channels, side, side) uint8; picklable.

    Attributes:
        entries: by the names that messages call them.
        side: pixels of the result.
        fit: "crop" cuts the middle square out of a longer picture, "stretch" squeezes it.
        resample: "lanczos" or "nearest".
        ink: one channel, 255 where a picture is black and 0 where it is white; otherwise three colours.
    """

    entries: Mapping[str, Entry]
    side: int
    fit: str
    resample: str = "lanczos"
    ink: bool = False

    def __call__(self) -> np.ndarray:
        """All of them.

        Raises:
            Unreadable: some cannot be read.
        """
        images, faults = np.empty((len(self.entries), 1 if self.ink else 3, self.side, self.side), np.uint8), []
        for image, (name, entry) in zip(images, self.entries.items(), strict=True):
            try:
                image[:] = decode(entry.read(), self.side, self.fit, self.resample, ink=self.ink)
            except (OSError, ValueError) as error:
                faults.append((name, str(error)))
        if faults:
            raise Unreadable(faults)
        return images


def decode(content: bytes, side: int, fit: str, resample: str, *, ink: bool = False) -> np.ndarray:
    """One picture as (3, side, side) uint8, or (1, side, side) for ``ink``: upright, over white where it is transparent.

    Raises:
        ValueError: it is not readable, unreasonably large, or of numbers whose range nobody knows (32 bits, floats).
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels")
            image.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size where that is enough
            upright = _over_white(_eight_bits(ImageOps.exif_transpose(image)))
            if ink:
                return 255 - np.asarray(_square(upright.convert("L"), side, fit, resample))[None]
            return np.asarray(_square(upright, side, fit, resample)).transpose(2, 0, 1)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError("not a readable picture") from error
    except (OSError, SyntaxError, struct.error, EOFError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
        raise ValueError(f"not a readable picture: {error}") from error  # what Pillow's readers raise for broken files


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits at 8, which Pillow would cut off at 255; others as they are."""
    if image.mode in ("I", "F"):
        raise ValueError("more than 8 bits a channel, black and white unknown; convert it to 8 bits")
    if not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)
    clear = image.info.get("transparency")
    return Image.fromarray(grey if clear is None else np.where(values == clear, np.uint8(255), grey))


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


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """Square pictures (pictures, 3, any, any) uint8 made (pictures, 3, side, side)."""
    if images.shape[-1] == side:
        return images
    whole = [Image.fromarray(image) for image in images.transpose(0, 2, 3, 1)]
    return np.stack([np.asarray(_square(image, side, "stretch", "lanczos")).transpose(2, 0, 1) for image in whole])


def names_of(classes: Mapping[str, Sequence[str]]) -> list[str]:
    """The pictures of all classes, class after class."""
    return [name for names in classes.values() for name in names]
