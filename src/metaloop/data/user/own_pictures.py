"""A user's own pictures: a folder or zip archive, or a file of paths and labels."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from metaloop.data.files.archives import Unreadable
from metaloop.data.images.pictures import Decode, Entry, FileEntry, find_pictures
from metaloop.data.user.own_files import TABLES, read_rows
from metaloop.data.user.own_tasks import OWN, Columns, OwnExamples, OwnRows, digests
from metaloop.errors import UserError

_NAMED = 5  # faulty pictures that a message names


@dataclass(frozen=True)
class PictureForm:
    """How a data set's pictures are made of files.

    Attributes:
        side: pixels.
        fit: see :class:`metaloop.data.images.pictures.Decode`.
        resample: the same.
        ink: whether they are dark drawings on white, of one channel, ink 255 on 0; else of three colours.
    """

    side: int
    fit: str = "crop"
    resample: str = "lanczos"
    ink: bool = False


class OwnPictures(OwnExamples):
    """Of data sets of images."""

    @abstractmethod
    def own_form(self) -> PictureForm:
        """How a user's pictures are to become like the data set's own."""

    def read_own(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> OwnRows:
        """See :meth:`OwnTasks.read_own`: a class a folder, or a file with the columns path and label."""
        if path.suffix.lower() in TABLES:
            entries, labels = _listed(path, columns, labelled=labelled)
        else:
            entries, labels = _found(path, labelled=labelled)
        images = _decoded(path, entries, self.own_form())
        stored = torch.from_numpy(images)
        return OwnRows(path, _digest(entries), stored, labels, tuple(entries), digests(stored))


def _found(path: Path, *, labelled: bool) -> tuple[Mapping[str, Entry], tuple[str | None, ...]]:
    """The pictures of a folder or archive; their labels are their folders, below what all have in common.

    Where labels are not needed, pictures in one folder have none: an archive made of a folder names it, too.
    """
    if not path.exists():
        raise OWN.problem(path, "no such file, folder or archive")
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise UserError(f"{path}: a folder, a .zip archive, or one of {', '.join(TABLES)} with columns of paths and labels")
    entries = find_pictures(path, OWN)
    folders = [PurePosixPath(name).parent for name in entries]
    top = PurePosixPath(".")
    if len(set(folders)) == 1 and not labelled:
        return entries, (None,) * len(entries)
    stray = next((name for name, folder in zip(entries, folders, strict=True) if folder == top), None)
    if stray is not None:
        raise UserError(f"{path}: {stray} lies in no folder, and pictures are labelled by their folders: one folder a class")
    common = PurePosixPath(os.path.commonpath(folders))
    common = common.parent if common in folders else common
    return entries, tuple(str(folder.relative_to(common)) for folder in folders)


def _listed(path: Path, columns: Columns, *, labelled: bool) -> tuple[Mapping[str, Entry], tuple[str | None, ...]]:
    """The pictures that a file names, from its own folder."""
    found = read_rows(path)
    found.check_column(columns.path, "path")
    if labelled:
        found.check_column(columns.label, "label")
    entries: dict[str, Entry] = {}
    for line, row in found.rows:
        name = found.file.sentence(found.file.field(row, columns.path, line), line)
        picture = path.parent / Path(name).expanduser()
        if not picture.is_file():
            raise found.file.problem(f"there is no picture {picture}", line)
        if name in entries:
            raise found.file.problem(f"{name} is named a second time", line)
        entries[name] = FileEntry(str(picture))
    return entries, tuple(found.label(row, line, columns.label) for line, row in found.rows)


def _decoded(path: Path, entries: Mapping[str, Entry], form: PictureForm) -> np.ndarray:
    try:
        return Decode(entries, form.side, form.fit, form.resample, form.ink)()
    except Unreadable as error:
        named = "; ".join(f"{name}: {what}" for name, what in error.faults[:_NAMED])
        more = f"; and {len(error.faults) - _NAMED} more" if len(error.faults) > _NAMED else ""
        raise UserError(f"{path}: {len(error.faults)} pictures cannot be read: {named}{more}") from error


def _digest(entries: Mapping[str, Entry]) -> str:
    """SHA-256 of names and contents."""
    found = hashlib.sha256()
    for name, entry in entries.items():
        content = entry.read()
        found.update(f"{name} {len(content)} ".encode() + content)
    return found.hexdigest()
