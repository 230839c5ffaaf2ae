"""CIFAR-100 as few-shot classes: CIFAR-FS and FC100."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import PIL

from metaloop.data.augmentation import Augmentation
from metaloop.data.files.pool_file import prepared
from metaloop.data.images.cifar100_files import CIFAR100, PARTS, SIDE, locate, read_images
from metaloop.data.images.image_pools import check_side, check_split, class_pools
from metaloop.data.images.pictures import resized
from metaloop.data.images.splits import CIFAR100_SCHEMES, read_cifar100_split
from metaloop.data.pool import ClassPool
from metaloop.data.user.own_pictures import OwnPictures, PictureForm
from metaloop.errors import UserError
from metaloop.system.cache import cache_folder

_VERSION = 1  # raise it when images are prepared otherwise


class Cifar100(OwnPictures):
    """The 60,000 images of CIFAR-100, 600 of each class, divided by class.

    Args:
        data_dir: the folder of ``cifar-100-python.tar.gz``, or of the folder ``cifar-100-python`` that it unpacks to.
        split_scheme: "cifar_fs" (64/16/20 classes at random, Bertinetto et al. 2019) or "fc100" (60/20/20 by superclass,
            Oreshkin et al. 2018).
        side: pixels.
        augmentation: of meta-training images.
        cache_dir: where the prepared images are kept between runs; None takes METALOOP_CACHE, else ~/.cache/metaloop.

    Raises:
        UserError: an argument is not one of these.
    """

    def __init__(
        self,
        data_dir: str,
        split_scheme: str = "cifar_fs",
        side: int = SIDE,
        augmentation: Augmentation | None = None,
        cache_dir: str | None = None,
    ) -> None:
        if split_scheme not in CIFAR100_SCHEMES:
            raise UserError(f"dataset.split_scheme={split_scheme!r}: one of {', '.join(CIFAR100_SCHEMES)}")
        check_side(side)
        self._data_dir = Path(data_dir).expanduser()
        self._scheme, self._side, self._augmentation = split_scheme, side, augmentation
        self._cache = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`; a fault in the files shows at the first call, whatever it asks for."""
        check_split(name)
        if not self._splits:
            self._splits = self._read()
        return self._splits[name]

    def own_form(self) -> PictureForm:
        """See :meth:`metaloop.data.user.own_pictures.OwnPictures.own_form`."""
        return PictureForm(self._side, "stretch")

    def _read(self) -> dict[str, ClassPool]:
        place, splits = locate(self._data_dir), read_cifar100_split(self._scheme)
        names, each = [name for classes in splits.values() for name in classes], sum(PARTS.values())

        @cache
        def images() -> Mapping[str, np.ndarray]:
            return _classes(place, names)

        def part(first: int, stop: int) -> partial[np.ndarray]:
            rows = [images()[names[row // each]][row % each] for row in range(first, stop)]
            return partial(resized, np.stack(rows), self._side)

        key = f"{_VERSION} {self._scheme} {self._side} {PIL.__version__} {_stamp(place)}"
        shape = (each * len(names), 3, self._side, self._side)
        pool = prepared(self._cache, self._scheme, key, shape, part)
        division = {split: dict.fromkeys(classes, each) for split, classes in splits.items()}
        return class_pools(pool, division, self._augmentation)


def _classes(place: Path, names: list[str]) -> Mapping[str, np.ndarray]:
    found = read_images(place)
    missing = sorted(set(names) - set(found))
    if missing:
        raise CIFAR100.problem(place, f"has no class {', '.join(missing)}")
    return found


def _stamp(place: Path) -> str:
    """What changes when the files do: their sizes and times of change."""
    files = [place] if place.is_file() else [place / name for name in ("meta", *PARTS)]
    try:
        states = [file.stat() for file in files]
    except OSError as error:
        raise CIFAR100.problem(place, f"{error.filename} cannot be read ({error.strerror})") from error
    return " ".join(f"{state.st_size} {state.st_mtime_ns}" for state in states)
