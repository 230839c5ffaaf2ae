"""CIFAR-100 as few-shot classes: CIFAR-FS and FC100."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import PIL

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import check_split
from metaloop.data.files.pool_file import prepared
from metaloop.data.images.cifar100_files import CIFAR100, PARTS, SIDE, locate, read_images
from metaloop.data.images.image_files import resize
from metaloop.data.images.image_pools import check_side, class_pools
from metaloop.data.images.splits import CIFAR100_SCHEMES, read_cifar100_split
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.errors import UserError
from metaloop.system.cache import cache_folder

_VERSION = 1  # increase it when the preparation of images changes


class Cifar100(UserImageDataset):
    """The 60,000 images of CIFAR-100, 600 of each class, divided by class.

    Args:
        data_dir: folder with ``cifar-100-python.tar.gz``, or with its unpacked folder ``cifar-100-python``.
        split_scheme: "cifar_fs" (64/16/20 random classes, Bertinetto et al. 2019) or "fc100" (60/20/20 classes by superclass,
            Oreshkin et al. 2018).
        side: side of the images in pixels.
        augmentation: augmentation of meta-training images; None for none.
        cache_dir: folder of the prepared images; None means METALOOP_CACHE, or ``metaloop`` in the user's cache folder.

    Raises:
        UserError: an argument has a value that is not allowed.
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
            raise UserError(f"dataset.split_scheme={split_scheme!r} must be one of {', '.join(CIFAR100_SCHEMES)}")
        check_side(side)
        self._data_dir = Path(data_dir).expanduser()
        self._scheme, self._side, self._augmentation = split_scheme, side, augmentation
        self._cache = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`. The first call reads all splits, and reports a fault in any of them."""
        check_split(name)
        if not self._splits:
            self._splits = self._read()
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return ImageForm(self._side, "stretch")

    def _read(self) -> dict[str, ClassPool]:
        path, splits = locate(self._data_dir), read_cifar100_split(self._scheme)
        names, per_class = [name for classes in splits.values() for name in classes], sum(PARTS.values())

        @cache
        def images() -> Mapping[str, np.ndarray]:
            return _read_classes(path, names)

        def part(first: int, stop: int) -> partial[np.ndarray]:
            rows = [images()[names[row // per_class]][row % per_class] for row in range(first, stop)]
            return partial(resize, np.stack(rows), self._side)

        key = f"{_VERSION} {self._scheme} {self._side} {PIL.__version__} {_stamp(path)}"
        shape = (per_class * len(names), 3, self._side, self._side)
        pool = prepared(self._cache, self._scheme, key, shape, part)
        division = {split: dict.fromkeys(classes, per_class) for split, classes in splits.items()}
        return class_pools(pool, division, self._augmentation)


def _read_classes(path: Path, names: list[str]) -> Mapping[str, np.ndarray]:
    images = read_images(path)
    missing = sorted(set(names) - set(images))
    if missing:
        raise CIFAR100.problem(path, f"has no class {', '.join(missing)}")
    return images


def _stamp(path: Path) -> str:
    """Sizes and modification times of the files, which change when the files do."""
    files = [path] if path.is_file() else [path / name for name in ("meta", *PARTS)]
    try:
        states = [file.stat() for file in files]
    except OSError as error:
        raise CIFAR100.problem(path, f"{error.filename} cannot be read ({error.strerror})") from error
    return " ".join(f"{state.st_size} {state.st_mtime_ns}" for state in states)
