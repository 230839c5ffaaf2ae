"""Pools of the three splits from prepared images, and argument checks that image data sets share."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import PIL
import torch

from metaloop.data.augmentation import Augmentation
from metaloop.data.copies import Copies
from metaloop.data.files.pixel_depth import FULL
from metaloop.data.files.pool_file import prepared
from metaloop.data.images.image_files import FITS, MODES, Decode, Entry
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, decoder
from metaloop.errors import UserError
from metaloop.system.cores import available_cores

_VERSION = 4  # increase it when the preparation of images changes
_MAX_SIDE = 1024
_HASHED = 32  # images whose contents are part of a cache key; more would cost seconds at every start
_SAMPLE = 256  # bytes of an image that are compared first
_FEW = 2048  # images that one process decodes sooner than worker processes start

Division = Mapping[str, Mapping[str, int]]  # number of images of each class of each split, in the order of the pool


def check_side(side: int) -> None:
    """Raise a UserError if images cannot have this side."""
    if not isinstance(side, int) or not 1 <= side <= _MAX_SIDE:
        raise UserError(f"dataset.side={side!r} must be a number of pixels from 1 to {_MAX_SIDE}")


def check_fit(fit: str) -> None:
    """Raise a UserError if ``fit`` is not a way to make images square."""
    if fit not in FITS:
        raise UserError(f"dataset.fit={fit!r} must be one of {', '.join(FITS)}")


def check_mode(mode: str) -> None:
    """Raise a UserError if images cannot be stored this way."""
    if mode not in MODES:
        raise UserError(f"dataset.mode={mode!r} must be one of {', '.join(MODES)}")


def check_white(white: int | None) -> None:
    """Raise a UserError if ``white`` cannot be a value of 16 bits."""
    if white is not None and (type(white) is not int or not 1 <= white <= FULL):
        raise UserError(f"dataset.white={white!r} must be a whole number from 1 to {FULL}, or null")


def check_workers(workers: int | None) -> int:
    """The number of processes that decode: ``dataset.decoders``, or one for each core of this process."""
    if workers is None:
        return available_cores()
    if not isinstance(workers, int) or workers < 0:
        raise UserError(
            f"dataset.decoders={workers!r} must be a number of processes: 0 decodes in this process, null uses one a core"
        )
    return workers


def prepared_images(folder: Path, name: str, entries: Mapping[str, Entry], form: ImageForm, workers: int) -> np.ndarray:
    """Decode images into a memory map (images, channels, side, side) uint8, in their order; see :func:`prepared`.

    The cache key has each image's name, size and modification time (its checksum in a zip archive), and a checksum of the
    contents of some, since copies of a folder may agree in everything else.
    """
    names = list(entries)

    def part(first: int, stop: int) -> Decode:
        return decoder({each: entries[each] for each in names[first:stop]}, form)

    listing = "\n".join(f"{each} {entry.stamp()}" for each, entry in entries.items())
    made = f"{form.side} {form.fit} {form.resample} {form.mode} {form.white}"
    key = f"{_VERSION} {made} {PIL.__version__} {_sample_digest(list(entries.values()))} {listing}"
    return prepared(
        folder, name, key, (len(names), MODES[form.mode], form.side, form.side), part, workers if len(names) > _FEW else 0
    )


def _sample_digest(entries: Sequence[Entry]) -> str:
    """Checksum of the contents of evenly spaced images."""
    digest = hashlib.sha256()
    for number in range(min(_HASHED, len(entries))):
        try:
            content = entries[number * len(entries) // min(_HASHED, len(entries))].read()
        except (OSError, ValueError):  # decoding reports it
            content = b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def pictured(images: np.ndarray, division: Division) -> dict[str, list[list[bytes]]]:
    """Keys of the prepared images (images, channels, side, side) of each class of each split; equal images have equal keys."""
    flat = images.reshape(len(images), -1)
    middle = flat.shape[1] // 2
    parts = [part.tobytes() for part in flat[:, middle : middle + _SAMPLE]]  # a page of each image, where most already differ
    times = Counter(parts)
    keys = (hashlib.sha256(flat[k]).digest() if times[part] > 1 else part for k, part in enumerate(parts))
    return {split: [list(islice(keys, size)) for size in classes.values()] for split, classes in division.items()}


def class_pools(
    images: np.ndarray, division: Division, augmentation: Augmentation | None, copies: Mapping[str, Copies | None] | None = None
) -> dict[str, ClassPool]:
    """Create the pool of each split over its part of ``images`` (images, channels, side, side), without a copy.

    Args:
        images: all images, split by split and class by class.
        division: for each split the number of images of each class.
        augmentation: applies to meta-training only; None for none.
        copies: for each split its equal images, if they are kept apart.
    """
    with warnings.catch_warnings():
        # The map is read-only and nothing writes to a pool. A copy-on-write map would count as memory of the process.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(images)
    pools, first = {}, 0
    for split, classes in division.items():
        stop = first + sum(classes.values())
        change = augmentation if split == "train" else None
        pools[split] = ClassPool(
            tensor[first:stop],
            list(classes.values()),
            list(classes),
            split=split,
            augmentation=change,
            copies=None if copies is None else copies[split],
        )
        first = stop
    return pools
