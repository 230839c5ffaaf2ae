"""A user's own images: a folder or zip archive with one folder a class."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from metaloop.data.augmentation import Augmentation
from metaloop.data.copies import Copies, check_repeats, count_repeats, tell_repeats
from metaloop.data.distribution import SPLITS, check_split
from metaloop.data.files.archives import Origin
from metaloop.data.images.class_division import (
    Share,
    Splits,
    check_division,
    divide,
    first_names,
    has_lists,
    read_split_file,
    take_validation,
)
from metaloop.data.images.image_files import Entry
from metaloop.data.images.image_pools import (
    check_fit,
    check_mode,
    check_side,
    check_white,
    check_workers,
    class_pools,
    pictured,
    prepared_images,
)
from metaloop.data.images.image_search import find_images
from metaloop.data.images.split_folders import Place, Rule, check_classes, check_one_split, check_rule, places
from metaloop.data.labels import tell_alike
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.errors import UserError
from metaloop.records.schema import ExampleCounts
from metaloop.system.cache import cache_folder

log = logging.getLogger(__name__)

_NO_SPLIT = (
    "A training needs classes for each split: dataset.classes divides them (those of folders named after splits with "
    "dataset.split_folders=merge; a mapping there says which folder is which split)"
)
USER_IMAGES = Origin("image_folder", "", "Set dataset.path to a folder or a zip archive with one folder of images a class")


class ImageFolder(UserImageDataset):
    """Images whose folder is their class, divided into splits by class.

    The name of a class is the path of its folder below ``path``, without the leading folders that all classes share and
    without folders that name a split. The classes of such folders are the splits, and ``classes`` only divides those of
    meta-training if there is no folder for meta-validation. All classes may be for testing, for an evaluation.

    Args:
        path: the folder or zip archive.
        classes: for each of "train", "validation" and "test", its share of the classes (three numbers, which are divided by
            their sum), or a list of class names (three lists; classes in no list are left out).
        split_seed: seed of the shuffle before classes are divided by shares.
        split_file: CSV file with the columns ``class`` and ``split``, used instead of ``classes``; None for none.
        split_folders: "auto" keeps the splits of folders that are named after them (train, Testing, valid_set, ...), "merge"
            joins the classes of such folders and divides them anew, "none" takes every folder as a class. Or a mapping of
            splits to the names of their folders; images in other folders are left out.
        side: side of the images in pixels.
        fit: "crop" cuts out the middle square, "stretch" squeezes the image to a square.
        mode: "color", "grey" (one channel, 255 is white) or "ink" (one channel, 255 is black, as in Omniglot).
        white: value of white in grey images of 16 bits, such as 4095 for 12 bits; None if they use all 16, which is checked.
        repeats: "apart" if no episode may have equal images in both support and query; "anywhere" if it may.
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
        split_folders: Rule = "auto",
        side: int = 84,
        fit: str = "crop",
        mode: str = "color",
        white: int | None = None,
        repeats: str = "apart",
        augmentation: Augmentation | None = None,
        decoders: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        if path is None:
            raise UserError(f"dataset.path is not set. {USER_IMAGES.remedy}")
        if not isinstance(path, str):
            raise UserError(
                f"dataset.path={path}: must be one folder or archive; quote a name with brackets: 'dataset.path=\"...\"'"
            )
        check_side(side)
        check_fit(fit)
        check_white(white)
        check_mode(mode)
        check_rule(split_folders)
        check_repeats(repeats)
        self._path = Path(path).expanduser()
        self._shares, self._seed = classes, split_seed
        self._file = None if split_file is None else Path(split_file).expanduser()
        self._form = ImageForm(side, fit, mode=mode, white=white, split_folders=split_folders)
        self._augmentation = augmentation
        self._decoders = check_workers(decoders)
        self._cache = cache_folder(cache_dir)
        self._apart = repeats == "apart"
        self._splits: dict[str, ClassPool] = {}
        self._counts: dict[str, ExampleCounts] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`. The first call reads all splits, and reports unreadable images in any of them."""
        check_split(name)
        if not self._splits:
            self._splits = self._read()
        if name not in self._splits:
            raise UserError(f"{self._path}: no classes for {name}, only for {', '.join(self._splits)}. {_NO_SPLIT}")
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return self._form

    def _read(self) -> dict[str, ClassPool]:
        classes = find_classes(self._path, self._form.split_folders)
        splits = self._of_folders(classes.splits) if classes.splits else self._divided(classes)
        used = {split: {label: classes.images[label] for label in splits[split]} for split in SPLITS if splits[split]}
        images = {name: entry for own in used.values() for entries in own.values() for name, entry in entries.items()}
        pool = prepared_images(self._cache, "image_folder", images, self._form, self._decoders)
        division = {split: {label: len(entries) for label, entries in own.items()} for split, own in used.items()}
        shown = pictured(pool, division)
        for split, repeats in count_repeats(shown).items():
            self._counts[split] = ExampleCounts(sum(division[split].values()), *repeats)
        tell_repeats(self._counts, "images", apart=self._apart)
        copies = {split: Copies.of(classes) for split, classes in shown.items()} if self._apart else None
        return class_pools(pool, division, self._augmentation, copies)

    def counts(self) -> Mapping[str, ExampleCounts]:
        """See :meth:`metaloop.data.distribution.Dataset.counts`."""
        return self._counts

    def _divided(self, classes: "Classes") -> Splits:
        if self._file is not None:
            splits = read_split_file(self._file)
            key = f"dataset.split_file={self._file}"
        else:
            splits, key = divide(sorted(classes.images), self._shares, self._seed), "dataset.classes"
        check_division(splits, classes.images, key)
        left = sorted(set(classes.images) - {label for own in splits.values() for label in own})
        if left:
            log.info("%s leaves out %s of the classes: %s", key, len(left), first_names(left))
        return splits

    def _of_folders(self, splits: Splits) -> Splits:
        """The splits that folders name; without a folder for meta-validation, a share of the classes of meta-training."""
        named = {split: classes for split, classes in splits.items() if classes}
        if self._file is not None or has_lists(self._shares):
            key = "dataset.classes" if self._file is None else "dataset.split_file"
            raise UserError(
                f"{key} and folders of {', '.join(named)} in {self._path} both divide the classes: set "
                f"dataset.split_folders=merge to use {key} alone (none if it names them with the folder of the split)"
            )
        if "test" not in named:
            raise UserError(f"{self._path}: folders for {', '.join(named)}, but none for test. {_NO_SPLIT}")
        if "train" in named and "validation" not in named:
            train, validation = take_validation(splits["train"], self._shares, self._seed)
            log.info(
                "no folder for validation: it gets %s of the classes of train: %s", len(validation), first_names(validation)
            )
            splits = {**splits, "train": train, "validation": validation}
        log.info("classes of splits by their folders: %s", ", ".join(f"{split} {len(own)}" for split, own in splits.items()))
        return splits


@dataclass(frozen=True)
class Classes:
    """The classes of a folder.

    Attributes:
        images: the images of every class, by their relative paths in the folder or archive.
        splits: the classes of each split; empty if no folders name splits.
    """

    images: dict[str, dict[str, Entry]]
    splits: Splits


def find_classes(path: Path, rule: Rule = "auto") -> Classes:
    """Find the images of every class, and the splits that folders name.

    Raises:
        UserError: there are no images, some are not in the folder of a class, or a class is in two splits.
    """
    if not path.exists():
        raise USER_IMAGES.problem(path, "no such folder or archive")
    images = find_images(path, USER_IMAGES)

    def problem(what: str) -> UserError:
        return UserError(f"{path}: {what}")

    found = dict(zip(images, places(list(images), rule, problem), strict=True))
    check_classes(found, problem)
    if any(place.split for place in found.values()):
        found = _without_others(path, found)
        check_one_split(found.values(), problem, "Use dataset.split_folders=merge to join both, and to divide all classes anew")
    elif not isinstance(rule, str):
        raise problem(f"holds no images in the folders of dataset.split_folders={dict(rule)}")
    classes: dict[str, dict[str, Entry]] = {}
    for name, (_, label) in found.items():
        classes.setdefault(label, {})[name] = images[name]
    tell_alike(classes, path.name)
    split_of = {label: split for split, label in found.values() if split}
    splits = {split: sorted(label for label in split_of if split_of[label] == split) for split in SPLITS}
    return Classes(classes, splits if split_of else {})


def _without_others(path: Path, found: Mapping[str, Place]) -> dict[str, Place]:
    """The images in folders of splits. Others are left out where the user named the folders of splits."""
    others = [name for name, place in found.items() if place.split is None]
    if others:
        folders = sorted({str(PurePosixPath(name).parent) for name in others})
        log.warning("%s: %s images in no folder of a split are left out: %s", path, len(others), first_names(folders))
    return {name: place for name, place in found.items() if place.split is not None}
