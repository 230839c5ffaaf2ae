"""Zip archives of images, read in memory and never unpacked to disk."""

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from metaloop.errors import UserError

_LARGEST_ENTRY = 2**26  # bytes unpacked; more than any photograph of a camera
RESAMPLING = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST}


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from, for messages.

    Attributes:
        name: what ``metaloop data get`` calls it.
        licence: under which it may be used; empty for a user's own files.
        remedy: what to do about a missing or broken file, where ``metaloop data get`` cannot fetch it.
    """

    name: str
    licence: str
    remedy: str = ""

    def problem(self, path: Path, what: str) -> UserError:
        """The error that says what is wrong with the file and what to do about it."""
        remedy = self.remedy or f"Get it with `metaloop data get {self.name}`"
        if not self.licence:
            return UserError(f"{path}: {what}{' ' if what.endswith('?') else '. '}{remedy}")
        return UserError(
            f"{path}: {what}. {remedy} (licence: {self.licence}), or say where it lies with dataset.data_dir or the "
            "environment's METALOOP_DATA"
        )


class Unreadable(Exception):
    """Files that hold no readable picture.

    Attributes:
        faults: their names, each with what is wrong with it.
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(faults)
        self.faults = faults


@contextmanager
def open_archive(path: Path, origin: Origin, largest: int = _LARGEST_ENTRY) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose entries all lie inside it and unpack to at most ``largest`` bytes each.

    Raises:
        UserError: the file is missing, cut short or no zip archive, or an entry is a link, unreasonably large, or
            points outside. Also for what goes wrong while the archive's entries are read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # to open a pipe would wait for ever
        raise origin.problem(path, "is no file, but a pipe, device or socket")
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                fault = _fault(entry, largest)
                if fault:
                    raise origin.problem(path, f"refused, entry {entry.filename!r} {fault}")
            yield archive
    except FileNotFoundError as error:
        raise origin.problem(path, "no such file") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise origin.problem(path, f"not a whole zip archive ({error})") from error


def _fault(entry: zipfile.ZipInfo, largest: int) -> str:
    """What is wrong with an entry; empty where nothing is."""
    place = PurePosixPath(entry.filename.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in entry.filename:
        return "points outside the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    if entry.file_size > largest:
        return f"unpacks to {entry.file_size} bytes"
    return ""


def read_ink(content: bytes, original: int, side: int, resample: str) -> np.ndarray:
    """A dark drawing on white as (side, side) uint8, ink 255 on 0.

    Args:
        content: a PNG file.
        original: pixels that its width and height must be.
        side: pixels of the result.
        resample: "lanczos" averages greys; "nearest" picks single pixels.

    Raises:
        ValueError: this is no readable PNG of that size.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (original, original):
                raise ValueError(f"{image.width}x{image.height} pixels, not {original}x{original}")
            grey = image.convert("L")
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
    ) as error:  # Pillow's PNG reader raises SyntaxError, too
        raise ValueError(f"not a readable PNG image ({error})") from error
    return 255 - np.asarray(grey.resize((side, side), RESAMPLING[resample]))
