"""A user's images: a folder, a zip archive, or a file of paths and labels."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from metaloop.data.files.archives import Unreadable
from metaloop.data.images.image_files import Decode, Entry, FileEntry
from metaloop.data.images.image_search import find_images
from metaloop.data.images.split_folders import Rule, check_classes, check_one_split, places
from metaloop.data.user.row_files import TABLES, read_rows
from metaloop.data.user.tasks import USER_FILES, Columns, UserExampleDataset, UserRows, example_hashes
from metaloop.errors import UserError

_LISTED_FAULTS = 5  # unreadable images that a message names


@dataclass(frozen=True)
class ImageForm:
    """How a data set turns image files into arrays.

    Attributes:
        side: side of the square images, in pixels.
        fit: "crop" or "stretch"; see :class:`metaloop.data.images.image_files.Decode`.
        resample: "lanczos" or "nearest".
        mode: "color", "grey" (one channel), or "ink" (one channel of dark drawings on white, stored with ink 255 on 0).
        white: value of white in grey images of 16 bits; None if unknown.
        split_folders: which folders are not classes but splits; see :func:`metaloop.data.images.split_folders.places`.
    """

    side: int
    fit: str = "crop"
    resample: str = "lanczos"
    mode: str = "color"
    white: int | None = None
    split_folders: Rule = "auto"


def decoder(entries: Mapping[str, Entry], form: ImageForm) -> Decode:
    """What decodes these images to this form."""
    return Decode(entries, form.side, form.fit, form.resample, form.mode, form.white)


class UserImageDataset(UserExampleDataset):
    """A data set of images."""

    @abstractmethod
    def image_form(self) -> ImageForm:
        """How a user's image files are prepared, so that they look like the data set's own images."""

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """See :meth:`UserFileDataset.read_user_file`: one folder a class, or a file with columns of paths and labels."""
        if path.suffix.lower() in TABLES:
            entries, labels = _read_list(path, columns, labelled=labelled)
        else:
            entries, labels = _read_folders(path, self.image_form().split_folders, labelled=labelled)
        images = _decode_all(path, entries, self.image_form())
        stored = torch.from_numpy(images)
        return UserRows(path, _digest(entries), stored, labels, tuple(entries), example_hashes(stored))


def _read_folders(path: Path, rule: Rule, *, labelled: bool) -> tuple[Mapping[str, Entry], tuple[str | None, ...]]:
    """The images of a folder or archive, labelled by the names of their classes, as in training.

    If labels are not required, images in a single folder have none, since an archive of a folder contains that folder too.
    """
    if not path.exists():
        raise USER_FILES.problem(path, "no such file, folder or archive")
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise UserError(
            f"{path} is neither a folder, nor a .zip archive, nor a file ({', '.join(TABLES)}) with columns of paths and labels"
        )
    entries = find_images(path, USER_FILES)
    if not labelled and len({PurePosixPath(name).parent for name in entries}) == 1:
        return entries, (None,) * len(entries)

    stray = next((name for name in entries if "/" not in name), None)
    if stray is not None:
        raise UserError(f"{path}: {stray} is not in a folder; images are labelled by their folders, one folder a class")

    def problem(what: str) -> UserError:
        return UserError(f"{path}: {what}")

    found = places(list(entries), rule, problem)
    if not labelled and not any(place.label for place in found):
        return entries, (None,) * len(entries)  # folders of splits that hold images
    check_classes(dict(zip(entries, found, strict=True)), problem)
    if labelled:
        check_one_split(found, problem, "Give the folder of one split as the support set")
    return entries, tuple(place.label for place in found)


def _read_list(path: Path, columns: Columns, *, labelled: bool) -> tuple[Mapping[str, Entry], tuple[str | None, ...]]:
    """The images that a file lists; relative paths start at the file's folder."""
    table = read_rows(path)
    table.check_column(columns.path, "path")
    if labelled:
        table.check_column(columns.label, "label")
    entries: dict[str, Entry] = {}
    for line, row in table.rows:
        name = table.file.sentence(table.file.field(row, columns.path, line), line)
        image = path.parent / Path(name).expanduser()
        if not image.is_file():
            raise table.file.problem(f"there is no image {image}", line)
        if name in entries:
            raise table.file.problem(f"{name} is listed a second time", line)
        entries[name] = FileEntry(str(image))
    return entries, tuple(table.label(row, line, columns.label) for line, row in table.rows)


def _decode_all(path: Path, entries: Mapping[str, Entry], form: ImageForm) -> np.ndarray:
    try:
        return decoder(entries, form)()
    except Unreadable as error:
        listed = "; ".join(f"{name}: {fault}" for name, fault in error.faults[:_LISTED_FAULTS])
        more = f"; and {len(error.faults) - _LISTED_FAULTS} more" if len(error.faults) > _LISTED_FAULTS else ""
        raise UserError(f"{path}: {len(error.faults)} images cannot be read: {listed}{more}") from error


def _digest(entries: Mapping[str, Entry]) -> str:
    """SHA-256 of the names and contents of all images, in hexadecimal."""
    digest = hashlib.sha256()
    for name, entry in entries.items():
        content = entry.read()
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()
