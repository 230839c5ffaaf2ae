"""A user's own pictures: a folder or zip archive, a class a folder."""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import SPLITS
from metaloop.data.files.archives import Origin
from metaloop.data.images.image_pools import check_fit, check_side, check_split, check_workers, class_pools, prepared_pictures
from metaloop.data.images.pictures import Entry, find_pictures
from metaloop.data.pool import ClassPool
from metaloop.data.user.own_pictures import OwnPictures, PictureForm
from metaloop.errors import UserError
from metaloop.system.cache import cache_folder
from metaloop.system.suggestions import did_you_mean

OWN = Origin("image_folder", "", "dataset.path names a folder or a zip archive with one folder of pictures a class")
Share = float | Sequence[str]


class ImageFolder(OwnPictures):
    """Pictures whose folder is their class, in splits of whole classes.

    A class is named by the folders between ``path`` and its pictures, joined by ``/``; folders that all classes lie in are left
    out of the names.

    Args:
        path: the folder or zip archive.
        classes: for each of "train", "validation" and "test" a share of the classes (three numbers, which are divided by their
            sum), or a list of their names (three lists; classes in none are left out).
        split_seed: of the order in which the classes are shared out by numbers.
        split_file: a CSV file with the columns ``class`` and ``split``; takes the place of ``classes``.
        side: pixels.
        fit: "crop" cuts out the middle square, "stretch" squeezes.
        augmentation: of meta-training images.
        decoders: processes that decode the pictures, once; None for one a core.
        cache_dir: where the prepared images are kept between runs; None takes METALOOP_CACHE, else ~/.cache/metaloop.

    Raises:
        UserError: an argument is not one of these.
    """

    def __init__(
        self,
        path: str | None,
        classes: Mapping[str, Share],
        split_seed: int = 0,
        split_file: str | None = None,
        side: int = 84,
        fit: str = "crop",
        augmentation: Augmentation | None = None,
        decoders: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        if path is None:
            raise UserError(f"dataset.path is needed: {OWN.remedy}")
        check_side(side)
        check_fit(fit)
        self._path = Path(path).expanduser()
        self._shares, self._seed = classes, split_seed
        self._file = None if split_file is None else Path(split_file).expanduser()
        self._side, self._fit, self._augmentation = side, fit, augmentation
        self._decoders = check_workers(decoders)
        self._cache = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`; unreadable pictures show at the first call, whatever it asks for."""
        check_split(name)
        if not self._splits:
            self._splits = self._read()
        return self._splits[name]

    def own_form(self) -> PictureForm:
        """See :meth:`metaloop.data.user.own_pictures.OwnPictures.own_form`."""
        return PictureForm(self._side, self._fit)

    def _read(self) -> dict[str, ClassPool]:
        found = find_classes(self._path)
        if self._file is not None:
            chosen = read_split_file(self._file)
            key = f"dataset.split_file={self._file}"
        else:
            chosen, key = shared_out(sorted(found), self._shares, self._seed), "dataset.classes"
        _check_division(chosen, found, key)
        pictures = {name: entry for split in SPLITS for label in chosen[split] for name, entry in found[label].items()}
        pool = prepared_pictures(self._cache, "image_folder", pictures, self._side, self._fit, self._decoders)
        division = {split: {label: len(found[label]) for label in chosen[split]} for split in SPLITS}
        return class_pools(pool, division, self._augmentation)


def find_classes(path: Path) -> dict[str, dict[str, Entry]]:
    """The pictures of every class, by their places in the folder or archive.

    Raises:
        UserError: there are none, or some lie in no folder.
    """
    if not path.exists():
        raise OWN.problem(path, "no such folder or archive")
    pictures = find_pictures(path, OWN)
    folders = {name: PurePosixPath(name).parent.parts for name in pictures}
    depth = _common(list(folders.values()))
    classes: dict[str, dict[str, Entry]] = {}
    for name, entry in pictures.items():
        classes.setdefault("/".join(folders[name][depth:]), {})[name] = entry
    inside = {str(parent) for label in classes for parent in PurePosixPath(label).parents}
    for label in sorted(inside & {label or "." for label in classes}):
        stray = next(iter(classes["" if label == "." else label]))
        raise OWN.problem(path, f"{stray} lies beside the classes' folders and is of no class")
    return classes


def _common(folders: Sequence[tuple[str, ...]]) -> int:
    """How many folders all begin with, less the last one of any: that is a class."""
    first, last = min(folders), max(folders)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return max(0, min(same, len(min(folders, key=len)) - 1))


def shared_out(names: Sequence[str], shares: Mapping[str, Share], seed: int) -> dict[str, list[str]]:
    """The classes of each split, by numbers or by names; every split gets at least one class.

    Raises:
        UserError: shares are neither three numbers nor three lists, or there are fewer than three classes.
    """
    if set(shares) != set(SPLITS):
        raise UserError(f"dataset.classes names {', '.join(shares) or 'nothing'}: give {', '.join(SPLITS)}")
    if all(isinstance(share, Sequence) and not isinstance(share, str) for share in shares.values()):
        return {split: [str(name) for name in shares[split]] for split in SPLITS}  # type: ignore[union-attr]
    numbers = [float(share) for share in shares.values() if isinstance(share, int | float) and not isinstance(share, bool)]
    if len(numbers) < len(SPLITS) or min(numbers) <= 0:
        raise UserError(f"dataset.classes={dict(shares)}: three shares above 0, or three lists of names")
    if len(names) < len(SPLITS):
        raise UserError(f"dataset.path: {len(names)} classes cannot be divided into {', '.join(SPLITS)}")
    order = sorted(names)
    random.Random(seed).shuffle(order)
    given = dict(zip(shares, numbers, strict=True))
    train, both = given["train"] / sum(numbers), (given["train"] + given["validation"]) / sum(numbers)
    first = min(max(round(train * len(order)), 1), len(order) - 2)
    second = min(max(round(both * len(order)), first + 1), len(order) - 1)
    parts = (order[:first], order[first:second], order[second:])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def read_split_file(path: Path) -> dict[str, list[str]]:
    """The classes of each split, in the order of the file.

    Raises:
        UserError: it cannot be read, lacks a column, or names another split.
    """
    chosen: dict[str, list[str]] = {split: [] for split in SPLITS}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if rows.fieldnames is None or not {"class", "split"} <= set(rows.fieldnames):
                raise UserError(f"dataset.split_file={path}: its first line must name the columns class and split")
            for row in rows:
                if row["split"] not in chosen:
                    raise UserError(
                        f"dataset.split_file={path}, line {rows.line_num}: {row['split']!r} is none of {', '.join(SPLITS)}"
                    )
                chosen[row["split"]].append(row["class"])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"dataset.split_file={path} cannot be read: {error}") from error
    return chosen


def _check_division(chosen: Mapping[str, Sequence[str]], found: Mapping[str, object], key: str) -> None:
    """Raise a UserError where a split is empty, or a class is missing or named twice."""
    seen: set[str] = set()
    for split in SPLITS:
        if not chosen[split]:
            raise UserError(f"{key}: no classes for {split}")
        for name in chosen[split]:
            if name not in found:
                raise UserError(f"{key}: there is no class {name!r}; {did_you_mean(name, found)}classes: {_some(list(found))}")
            if name in seen:
                raise UserError(f"{key}: class {name!r} is named twice")
            seen.add(name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
