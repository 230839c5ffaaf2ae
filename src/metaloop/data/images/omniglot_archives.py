"""Omniglot's official archives as arrays, checked against what they must hold (Lake et al. 2015, Science 350)."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from metaloop.data.files.archives import Origin, open_archive, read_ink
from metaloop.data.images.splits import read_split

OMNIGLOT = Origin("omniglot", "MIT")
DRAWINGS = 20  # of every character
ORIGINAL_SIDE = 105  # pixels
RUNS = 20  # of the one-shot classification task, each with
WAYS = 20  # characters of one alphabet


def archive_name(part: str) -> str:
    """The file of a part, "background" or "evaluation"."""
    return f"images_{part}.zip"


def read_characters(path: Path, part: str, side: int, resample: str) -> np.ndarray:
    """(characters, 20, side, side) uint8, ink 255 on 0, characters in the order of ``read_split("alphabets")[part]``.

    Drawings are in the order of their file names, which is that of the drawers.

    Raises:
        UserError: the archive is missing, broken, or does not hold the characters of this part with 20 drawings each.
    """
    names = read_split("alphabets")[part]
    with open_archive(path, OMNIGLOT) as archive:
        drawings: dict[str, list[str]] = {name: [] for name in names}
        for entry in sorted(archive.namelist()):
            place = PurePosixPath(entry)
            if place.suffix == ".png" and len(place.parts) == 4:
                drawings.setdefault("/".join(place.parts[1:3]), []).append(entry)
        for name, found in drawings.items():
            want = DRAWINGS if name in names else 0
            if len(found) != want or any(PurePosixPath(entry).parts[0] != f"images_{part}" for entry in found):
                raise OMNIGLOT.problem(path, f"not Omniglot's {part} part: {len(found)} drawings of {name}, not {want}")
        return np.stack([_stack(archive, path, drawings[name], side, resample) for name in names])


def read_runs(path: Path, side: int, resample: str) -> tuple[np.ndarray, np.ndarray]:
    """The one-shot classification task: two (20 runs, 20 characters, side, side) uint8 arrays, ink 255 on 0.

    The first holds the drawing to learn each character from, ``class01`` to ``class20``; the second the test drawing of
    the same character, so answers are in order.

    Raises:
        UserError: the archive is missing, broken or another one.
    """
    with open_archive(path, OMNIGLOT) as archive:
        training, test = [], []
        for run in range(1, RUNS + 1):
            folder = f"run{run:02d}"
            items = [f"{folder}/test/item{k:02d}.png" for k in range(1, WAYS + 1)]
            classes = [f"{folder}/training/class{k:02d}.png" for k in range(1, WAYS + 1)]
            item_of = {name: item for item, name in _labels(archive, path, f"{folder}/class_labels.txt")}
            if sorted(item_of) != classes or sorted(item_of.values()) != items:
                raise OMNIGLOT.problem(path, f"{folder}/class_labels.txt does not pair 20 test items with 20 characters")
            training.append(_stack(archive, path, classes, side, resample))
            test.append(_stack(archive, path, [item_of[name] for name in classes], side, resample))
    return np.stack(training), np.stack(test)


def _labels(archive: zipfile.ZipFile, path: Path, entry: str) -> list[tuple[str, str]]:
    """The pairs (test item, training image) of a run."""
    try:
        lines = [line.split() for line in archive.read(entry).decode("ascii").splitlines() if line.strip()]
        return [(item, name) for item, name in lines]
    except (KeyError, ValueError) as error:
        raise OMNIGLOT.problem(path, f"not Omniglot's one-shot runs: {entry} is missing or unreadable") from error


def _stack(archive: zipfile.ZipFile, path: Path, entries: list[str], side: int, resample: str) -> np.ndarray:
    """(entries, side, side) uint8."""
    images = np.empty((len(entries), side, side), np.uint8)
    for i, entry in enumerate(entries):
        try:
            images[i] = read_ink(archive.read(entry), ORIGINAL_SIDE, side, resample)
        except (KeyError, ValueError) as error:
            raise OMNIGLOT.problem(path, f"entry {entry} is missing or broken ({error})") from error
    return images
