"""Reading and checking of Omniglot's official archives (Lake et al. 2015, Science 350)."""

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from metaloop.data.files.archives import Origin, open_archive, read_ink
from metaloop.data.images.splits import read_split

OMNIGLOT = Origin("omniglot", "MIT")
DRAWINGS = 20  # of every character
ORIGINAL_SIDE = 105  # pixels
RUNS = 20  # of the one-shot classification task
WAYS = 20  # characters of a run, all from one alphabet


def archive_name(part: str) -> str:
    """The file name of a part, "background" or "evaluation"."""
    return f"images_{part}.zip"


def read_characters(path: Path, part: str, side: int, resample: str) -> np.ndarray:
    """Read the drawings (characters, 20, side, side) uint8 of a part, ink 255 on 0.

    Characters are in the order of ``read_split("alphabets")[part]``. Drawings are in the order of their file names, which is
    the order of the people who drew them.

    Raises:
        UserError: the archive is missing, broken, or does not hold 20 drawings of each character of this part.
    """
    names = read_split("alphabets")[part]
    with open_archive(path, OMNIGLOT) as archive:
        drawings: dict[str, list[str]] = {name: [] for name in names}
        for entry in sorted(archive.namelist()):
            entry_path = PurePosixPath(entry)
            if entry_path.suffix == ".png" and len(entry_path.parts) == 4:
                drawings.setdefault("/".join(entry_path.parts[1:3]), []).append(entry)
        for name, entries in drawings.items():
            expected = DRAWINGS if name in names else 0
            if len(entries) != expected or any(PurePosixPath(entry).parts[0] != f"images_{part}" for entry in entries):
                fault = f"not Omniglot's {part} part: {len(entries)} drawings of {name}, not {expected}"
                raise OMNIGLOT.problem(path, fault)
        return np.stack([_stack(archive, path, drawings[name], side, resample) for name in names])


def read_runs(path: Path, side: int, resample: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the one-shot classification task as two (20 runs, 20 characters, side, side) uint8 arrays, ink 255 on 0.

    The first array has the training drawing of each character, ``class01`` to ``class20``. The second has the test drawings of
    the same characters in the same order.

    Raises:
        UserError: the archive is missing, broken or another archive.
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
    """The images (entries, side, side) uint8 of some entries."""
    images = np.empty((len(entries), side, side), np.uint8)
    for i, entry in enumerate(entries):
        try:
            images[i] = read_ink(archive.read(entry), ORIGINAL_SIDE, side, resample)
        except (KeyError, ValueError) as error:
            raise OMNIGLOT.problem(path, f"entry {entry} is missing or broken ({error})") from error
    return images
