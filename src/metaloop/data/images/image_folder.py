"""A user's own images: a folder or zip archive with one folder a class."""

import csv
import random
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from metaloop.data.augmentation import Augmentation
from metaloop.data.class_splits import SPLIT_NAMES, split_named
from metaloop.data.distribution import SPLITS, check_split
from metaloop.data.files.archives import Origin
from metaloop.data.images.image_files import Entry, find_images
from metaloop.data.images.image_pools import check_fit, check_side, check_workers, class_pools, prepared_images
from metaloop.data.labels import plain_name
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.errors import UserError
from metaloop.system.cache import cache_folder
from metaloop.system.suggestions import did_you_mean

USER_IMAGES = Origin("image_folder", "", "Set dataset.path to a folder or a zip archive with one folder of images a class")
Share = float | Sequence[str]


class ImageFolder(UserImageDataset):
    """Images whose folder is their class, divided into splits by class.

    The name of a class is the path of its folder below ``path``, without the leading folders that all classes share.

    Args:
        path: the folder or zip archive.
        classes: for each of "train", "validation" and "test", its share of the classes (three numbers, which are divided by
            their sum), or a list of class names (three lists; classes in no list are left out).
        split_seed: seed of the shuffle before classes are divided by shares.
        split_file: CSV file with the columns ``class`` and ``split``, used instead of ``classes``; None for none.
        side: side of the images in pixels.
        fit: "crop" cuts out the middle square, "stretch" squeezes the image to a square.
        augmentation: augmentation of meta-training images; None for none.
        decoders: number of processes that decode the images once; None for one a core.
        cache_dir: folder of the prepared images; None means METALOOP_CACHE, or ``metaloop`` in the user's cache folder.

    Raises:
        UserError: an argument has a value that is not allowed.
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
            raise UserError(f"dataset.path is not set. {USER_IMAGES.remedy}")
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
        """See :meth:`Dataset.split`. The first call reads all splits, and reports unreadable images in any of them."""
        check_split(name)
        if not self._splits:
            self._splits = self._read()
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return ImageForm(self._side, self._fit)

    def _read(self) -> dict[str, ClassPool]:
        classes = find_classes(self._path)
        if self._file is not None:
            splits = read_split_file(self._file)
            key = f"dataset.split_file={self._file}"
        else:
            splits, key = divide(sorted(classes), self._shares, self._seed), "dataset.classes"
        _check_division(splits, classes, key)
        images = {name: entry for split in SPLITS for label in splits[split] for name, entry in classes[label].items()}
        pool = prepared_images(self._cache, "image_folder", images, self._side, self._fit, self._decoders)
        division = {split: {label: len(classes[label]) for label in splits[split]} for split in SPLITS}
        return class_pools(pool, division, self._augmentation)


def find_classes(path: Path) -> dict[str, dict[str, Entry]]:
    """Find the images of every class, by their relative paths in the folder or archive.

    Raises:
        UserError: there are no images, or some are not in the folder of a class.
    """
    if not path.exists():
        raise USER_IMAGES.problem(path, "no such folder or archive")
    images = find_images(path, USER_IMAGES)
    folders = {name: PurePosixPath(name).parent.parts for name in images}
    depth = _common_depth(list(folders.values()))
    classes: dict[str, dict[str, Entry]] = {}
    for name, entry in images.items():
        classes.setdefault(plain_name("/".join(folders[name][depth:])), {})[name] = entry
    parents = {str(parent) for label in classes for parent in PurePosixPath(label).parents}
    for label in sorted(parents & {label or "." for label in classes}):
        stray = next(iter(classes["" if label == "." else label]))
        raise USER_IMAGES.problem(path, f"{stray} is beside the folders of classes and belongs to no class")
    return classes


def _common_depth(folders: Sequence[tuple[str, ...]]) -> int:
    """The number of leading folders that all paths share. The last folder of a path is a class and does not count."""
    first, last = min(folders), max(folders)
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return max(0, min(shared, len(min(folders, key=len)) - 1))


def divide(names: Sequence[str], shares: Mapping[str, Share], seed: int) -> dict[str, list[str]]:
    """Divide classes by shares or by lists of names. Every split gets at least one class.

    Raises:
        UserError: shares are neither three numbers nor three lists, or there are fewer than three classes.
    """
    if set(shares) != set(SPLITS):
        raise UserError(f"dataset.classes has the keys {', '.join(shares) or 'none'}; it needs {', '.join(SPLITS)}")
    if all(isinstance(share, Sequence) and not isinstance(share, str) for share in shares.values()):
        return {split: [plain_name(str(name)) for name in shares[split]] for split in SPLITS}  # type: ignore[union-attr]
    numbers = [float(share) for share in shares.values() if isinstance(share, int | float) and not isinstance(share, bool)]
    if len(numbers) < len(SPLITS) or min(numbers) <= 0:
        raise UserError(f"dataset.classes={dict(shares)} must be three shares above 0, or three lists of names")
    if len(names) < len(SPLITS):
        raise UserError(f"dataset.path: {len(names)} classes cannot be divided into {', '.join(SPLITS)}")
    order = sorted(names)
    random.Random(seed).shuffle(order)
    share = dict(zip(shares, numbers, strict=True))
    train, train_and_validation = share["train"] / sum(numbers), (share["train"] + share["validation"]) / sum(numbers)
    first = min(max(round(train * len(order)), 1), len(order) - 2)
    second = min(max(round(train_and_validation * len(order)), first + 1), len(order) - 1)
    parts = (order[:first], order[first:second], order[second:])
    return {split: sorted(part) for split, part in zip(SPLITS, parts, strict=True)}


def read_split_file(path: Path) -> dict[str, list[str]]:
    """Read the classes of each split, in the order of the file.

    Raises:
        UserError: the file cannot be read, lacks a column, or names an unknown split.
    """
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if rows.fieldnames is None or not {"class", "split"} <= set(rows.fieldnames):
                raise UserError(f"dataset.split_file={path}: its first line must name the columns class and split")
            for row in rows:
                split = split_named(row["split"])
                if split is None or not row["class"]:
                    fault = f"{row['split']!r} must be one of {', '.join(SPLIT_NAMES)}" if split is None else "no class"
                    raise UserError(f"dataset.split_file={path}, line {rows.line_num}: {fault}")
                splits[split].append(plain_name(row["class"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"dataset.split_file={path} cannot be read: {error}") from error
    return splits


def _check_division(splits: Mapping[str, Sequence[str]], classes: Mapping[str, object], key: str) -> None:
    """Raise a UserError if a split is empty, or if a class is missing or named twice."""
    used: set[str] = set()
    for split in SPLITS:
        if not splits[split]:
            raise UserError(f"{key}: no classes for {split}")
        for name in splits[split]:
            if name not in classes:
                hint = did_you_mean(name, classes)
                raise UserError(f"{key}: there is no class {name!r}; {hint}the classes are {_first_names(list(classes))}")
            if name in used:
                raise UserError(f"{key}: class {name!r} is named twice")
            used.add(name)


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
