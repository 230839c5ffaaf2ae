"""mini-ImageNet: 100 classes of ImageNet, 600 pictures each, divided as Ravi and Larochelle (2017) did."""

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from metaloop.data.augmentation import Augmentation
from metaloop.data.files.archives import Origin
from metaloop.data.images.image_pools import check_fit, check_side, check_split, check_workers, class_pools, prepared_pictures
from metaloop.data.images.pictures import Entry, find_pictures
from metaloop.data.pool import ClassPool
from metaloop.data.user.own_pictures import OwnPictures, PictureForm
from metaloop.system.cache import cache_folder

MINI_IMAGENET = Origin(
    "mini_imagenet",
    "ImageNet's terms: research without commerce",
    "Nothing downloads mini-ImageNet: put Ravi and Larochelle's train.csv, val.csv and test.csv and the pictures that they "
    "name (a folder images or images.zip) into one folder",
)
LISTS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
CLASSES = {"train": 64, "validation": 16, "test": 20}
EACH = 600  # pictures of a class
_NAMED = 5  # that a message names


class MiniImageNet(OwnPictures):
    """The three lists (``filename,label``) over a folder or zip archive of pictures.

    Args:
        data_dir: the folder of ``train.csv``, ``val.csv``, ``test.csv``, and of ``images`` or ``images.zip``.
        images: another folder or zip archive of the pictures, in any folders inside; None looks in ``data_dir``.
        side: pixels; 84 in the literature.
        fit: "stretch" (in the literature) or "crop"; see :class:`metaloop.data.images.pictures.Decode`.
        augmentation: of meta-training images.
        decoders: processes that decode the pictures, once; None for one a core.
        cache_dir: where the prepared images are kept between runs; None takes METALOOP_CACHE, else ~/.cache/metaloop.

    Raises:
        UserError: an argument is not one of these.
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
        """See :meth:`Dataset.split`; a fault in a list or picture shows at the first call, whatever it asks for."""
        check_split(name)
        if not self._splits:
            lists = read_lists(self._data_dir)
            pictures = self._pictures(lists)
            pool = prepared_pictures(self._cache, "mini_imagenet", pictures, self._side, self._fit, self._decoders)
            division = {split: {label: len(files) for label, files in classes.items()} for split, classes in lists.items()}
            self._splits = class_pools(pool, division, self._augmentation)
        return self._splits[name]

    def own_form(self) -> PictureForm:
        """See :meth:`metaloop.data.user.own_pictures.OwnPictures.own_form`."""
        return PictureForm(self._side, self._fit)

    def _pictures(self, lists: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Entry]:
        place = self._images
        if place is None:
            folder, archive = self._data_dir / "images", self._data_dir / "images.zip"
            place = folder if folder.is_dir() else archive
        found = {PurePosixPath(name).name: entry for name, entry in find_pictures(place, MINI_IMAGENET).items()}
        wanted = [file for classes in lists.values() for files in classes.values() for file in files]
        missing = [file for file in wanted if file not in found]
        if missing:
            raise MINI_IMAGENET.problem(place, f"lacks {len(missing)} pictures of the lists: {', '.join(missing[:_NAMED])} ...")
        return {file: found[file] for file in wanted}


def read_lists(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The pictures of each class of each split, in the order of the lists.

    Raises:
        UserError: a list is missing or broken, or does not name 600 pictures of each of 64, 16 or 20 classes of its own.
    """
    lists: dict[str, dict[str, list[str]]] = {}
    for split, name in LISTS.items():
        path = folder / name
        classes = _read_list(path)
        short = [label for label, files in classes.items() if len(set(files)) != EACH]
        if len(classes) != CLASSES[split] or short:
            more = f"; {short[0]} has {len(classes[short[0]])} pictures, not {EACH}" if short else ""
            raise MINI_IMAGENET.problem(path, f"names {len(classes)} classes, not {CLASSES[split]}{more}")
        for other in lists.values():
            for label in classes.keys() & other.keys():
                raise MINI_IMAGENET.problem(path, f"class {label} is of another split, too")
        lists[split] = classes
    return lists


def _read_list(path: Path) -> dict[str, list[str]]:
    classes: dict[str, list[str]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, strict=True)
            if rows.fieldnames is None or not {"filename", "label"} <= set(rows.fieldnames):
                raise MINI_IMAGENET.problem(path, "its first line is not filename,label")
            for row in rows:
                classes.setdefault(str(row["label"]), []).append(str(row["filename"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MINI_IMAGENET.problem(path, f"cannot be read ({error})") from error
    return classes
