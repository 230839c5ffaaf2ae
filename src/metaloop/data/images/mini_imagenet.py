"""mini-ImageNet: 100 classes of ImageNet with 600 images each, in the splits of Ravi and Larochelle (2017)."""

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import check_split
from metaloop.data.files.archives import Origin
from metaloop.data.images.image_files import Entry
from metaloop.data.images.image_pools import check_fit, check_side, check_workers, class_pools, prepared_images
from metaloop.data.images.image_search import find_images
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.system.cache import cache_folder

MINI_IMAGENET = Origin(
    "mini_imagenet",
    "ImageNet's terms: non-commercial research only",
    "mini-ImageNet has no download command: put Ravi and Larochelle's train.csv, val.csv and test.csv and their images (a "
    "folder images, or images.zip) into one folder",
)
LISTS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
CLASSES = {"train": 64, "validation": 16, "test": 20}
EACH = 600  # images of a class
_LISTED = 5  # missing images that a message names


class MiniImageNet(UserImageDataset):
    """Three class lists (``filename,label``), and a folder or zip archive of images.

    Args:
        data_dir: folder with ``train.csv``, ``val.csv``, ``test.csv``, and with ``images`` or ``images.zip``.
        images: folder or zip archive of the images, in any folders inside; None for the one in ``data_dir``.
        side: side of the images in pixels; 84 in the literature.
        fit: "stretch" (as in the literature) or "crop"; see :class:`metaloop.data.images.image_files.Decode`.
        augmentation: augmentation of meta-training images; None for none.
        decoders: number of processes that decode the images once; None for one a core.
        cache_dir: folder of the prepared images; None means METALOOP_CACHE, or ``metaloop`` in the user's cache folder.

    Raises:
        UserError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        data_dir: str,
        images: str | None = None,
        side: int = 84,
        fit: str = "stretch",
        augmentation: Augmentation | None = None,
        decoders: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        check_side(side)
        check_fit(fit)
        self._data_dir = Path(data_dir).expanduser()
        self._images = None if images is None else Path(images).expanduser()
        self._side, self._fit, self._augmentation = side, fit, augmentation
        self._decoders = check_workers(decoders)
        self._cache = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`. The first call reads all splits, and reports a fault in any of them."""
        check_split(name)
        if not self._splits:
            lists = read_lists(self._data_dir)
            images = self._find_images(lists)
            pool = prepared_images(self._cache, "mini_imagenet", images, self.image_form(), self._decoders)
            division = {split: {label: len(files) for label, files in classes.items()} for split, classes in lists.items()}
            self._splits = class_pools(pool, division, self._augmentation)
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return ImageForm(self._side, self._fit)

    def _find_images(self, lists: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Entry]:
        path = self._images
        if path is None:
            folder, archive = self._data_dir / "images", self._data_dir / "images.zip"
            path = folder if folder.is_dir() else archive
        entries: dict[str, Entry] = {}
        files = [file for classes in lists.values() for members in classes.values() for file in members]
        listed = set(files)
        for name, entry in find_images(path, MINI_IMAGENET).items():
            file = PurePosixPath(name).name
            if file in entries and file in listed:
                raise MINI_IMAGENET.problem(path, f"holds several images of the name {file}, such as {name}")
            entries[file] = entry
        missing = [file for file in files if file not in entries]
        if missing:
            raise MINI_IMAGENET.problem(path, f"lacks {len(missing)} images of the lists: {', '.join(missing[:_LISTED])} ...")
        return {file: entries[file] for file in files}


def read_lists(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Read the image names of each class of each split, in the order of the lists.

    Raises:
        UserError: a list is missing or broken, lacks classes or images, or shares a class with another list.
    """
    lists: dict[str, dict[str, list[str]]] = {}
    for split, name in LISTS.items():
        path = folder / name
        classes = _read_list(path)
        short = [label for label, files in classes.items() if len(set(files)) != EACH]
        if len(classes) != CLASSES[split]:
            raise MINI_IMAGENET.problem(path, f"names {len(classes)} classes, not {CLASSES[split]}")
        if short:
            raise MINI_IMAGENET.problem(path, f"class {short[0]} has {len(classes[short[0]])} images, not {EACH}")
        for other in lists.values():
            for label in classes.keys() & other.keys():
                raise MINI_IMAGENET.problem(path, f"class {label} is also in another split")
        lists[split] = classes
    return lists


def _read_list(path: Path) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if rows.fieldnames is None or not {"filename", "label"} <= set(rows.fieldnames):
                raise MINI_IMAGENET.problem(path, "the first line must be filename,label")
            for row in rows:
                classes.setdefault(str(row["label"]), []).append(str(row["filename"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MINI_IMAGENET.problem(path, f"cannot be read ({error})") from error
    return classes
