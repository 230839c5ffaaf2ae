"""From prepared images to the pools of the three splits, and what all image data sets check."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL
import torch

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import SPLITS
from metaloop.data.files.pool_file import prepared
from metaloop.data.images.pictures import FITS, Decode, Entry
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError
from metaloop.system.cores import available_cores

_VERSION = 2  # raise it when images are prepared otherwise
_LARGEST_SIDE = 1024
_LOOKED_AT = 32  # pictures whose contents are part of a key; more would cost seconds at every start
_FEW = 2048  # pictures that are read before worker processes have started

Division = Mapping[str, Mapping[str, int]]  # images of each class of each split, in the order of the pool


def check_side(side: int) -> None:
    """Raise a UserError unless images can be made this large."""
    if not isinstance(side, int) or not 1 <= side <= _LARGEST_SIDE:
        raise UserError(f"dataset.side={side!r}: pixels, from 1 to {_LARGEST_SIDE}")


def check_fit(fit: str) -> None:
    """Raise a UserError unless there is such a way to make pictures square."""
    if fit not in FITS:
        raise UserError(f"dataset.fit={fit!r}: one of {', '.join(FITS)}")


def check_workers(workers: int | None) -> int:
    """How many processes decode: ``dataset.decoders``, or as many as this process has cores."""
    if workers is None:
        return available_cores()
    if not isinstance(workers, int) or workers < 0:
        raise UserError(f"dataset.decoders={workers!r}: a number of processes, 0 for none beside this one, null for one a core")
    return workers


def check_split(name: str) -> None:
    """Raise a UserError unless there is such a split."""
    if name not in SPLITS:
        raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")


def prepared_pictures(folder: Path, name: str, pictures: Mapping[str, Entry], side: int, fit: str, workers: int) -> np.ndarray:
    """The pictures, in this order, as a memory map (pictures, 3, side, side) uint8; see :func:`prepared`.

    The cache's key names each picture, its size and its time of change (in a zip archive: its checksum), and holds the contents
    of a few: copies of folders may agree in all else.
    """
    names = list(pictures)

    def part(first: int, stop: int) -> Decode:
        return Decode({each: pictures[each] for each in names[first:stop]}, side, fit)

    listing = "\n".join(f"{each} {entry.stamp()}" for each, entry in pictures.items())
    key = f"{_VERSION} {side} {fit} {PIL.__version__} {_contents(list(pictures.values()))} {listing}"
    return prepared(folder, name, key, (len(names), 3, side, side), part, workers if len(names) > _FEW else 0)


def _contents(entries: Sequence[Entry]) -> str:
    """Checksum of evenly spaced pictures' contents."""
    digest = hashlib.sha256()
    for number in range(min(_LOOKED_AT, len(entries))):
        try:
            content = entries[number * len(entries) // min(_LOOKED_AT, len(entries))].read()
        except (OSError, ValueError):  # whoever decodes it names it
            content = b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def class_pools(images: np.ndarray, division: Division, augmentation: Augmentation | None) -> dict[str, ClassPool]:
    """A pool for each split over its part of ``images`` (images, 3, side, side), which stay where they are.

    ``augmentation`` is for meta-training alone.
    """
    with warnings.catch_warnings():
        # The map is read-only, and nothing writes to a pool; a private copy on write would count as memory of the process.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        whole = torch.from_numpy(images)
    pools, first = {}, 0
    for split, classes in division.items():
        stop = first + sum(classes.values())
        changed = augmentation if split == "train" else None
        pools[split] = ClassPool(whole[first:stop], list(classes.values()), list(classes), split=split, augmentation=changed)
        first = stop
    return pools
