"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each (Lake et al. 2015)."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL
import torch

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import check_split
from metaloop.data.files.archives import RESAMPLING
from metaloop.data.images.omniglot_archives import DRAWINGS, OMNIGLOT, ORIGINAL_SIDE, archive_name, read_characters
from metaloop.data.images.splits import SCHEMES, read_split
from metaloop.data.pool import ROTATIONS, ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.errors import UserError
from metaloop.system.cache import Arrays, cache_folder, cached

TRAIN_CLASSES = "train_classes"
_VERSION = 1  # increase it when the preparation of images changes


class Omniglot(UserImageDataset):
    """The official archives, in the split of one of several papers.

    Args:
        data_dir: folder with ``images_background.zip`` and ``images_evaluation.zip``.
        split_scheme: "finn" (1,100/100/423 characters mixed from all alphabets, Finn et al. 2017), "vinyals"
            (1,028/172/423, Vinyals et al. 2016), "lake" (background and evaluation alphabets, Lake et al. 2015),
            "minimal1" and "minimal2" (five background alphabets, Lake et al. 2019). The split files name our choices.
        rotations: "none", "classes" (each character becomes four classes, as in Vinyals et al.) or "augment" (each class of an
            episode is turned by a random multiple of 90 degrees, as in Finn et al.). They apply to all splits, as in those
            papers' code. "train_classes" is "classes" in meta-training and "none" elsewhere (Nichol et al. 2018).
        side: side of the images in pixels, at most the original 105.
        resample: "lanczos" smooths the original black and white to greys. "nearest" is the effect of Finn et al.'s code: it
            requests Lanczos, which Pillow does not apply to black and white images.
        cache_dir: folder of the prepared images; None means METALOOP_CACHE, or ``metaloop`` in the user's cache folder.
        augmentation: random changes of meta-training images; None for none.

    Raises:
        UserError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        data_dir: str,
        split_scheme: str = "finn",
        rotations: str = "none",
        side: int = 28,
        resample: str = "lanczos",
        cache_dir: str | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        for key, value, allowed in (
            ("split_scheme", split_scheme, SCHEMES),
            ("rotations", rotations, (*ROTATIONS, TRAIN_CLASSES)),
            ("resample", resample, tuple(RESAMPLING)),
        ):
            if value not in allowed:
                raise UserError(f"dataset.{key}={value!r} must be one of {', '.join(allowed)}")
        check_side(side)
        self._data_dir = Path(data_dir).expanduser()
        self._scheme, self._rotations = split_scheme, rotations
        self._side, self._resample, self._augmentation = side, resample, augmentation
        self._cache = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`. The first call reads all splits, and reports a fault in either archive."""
        check_split(name)
        if not self._splits:
            images = self._images()
            self._splits = {split: self._pool(split, names, images) for split, names in read_split(self._scheme).items()}
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return ImageForm(self._side, resample=self._resample, mode="ink")

    def _images(self) -> dict[str, np.ndarray]:
        """The drawings (20, side, side) uint8 of each character of both archives."""
        images: dict[str, np.ndarray] = {}
        for part, names in read_split("alphabets").items():
            images.update(zip(names, self._read_part(part), strict=True))
        return images

    def _read_part(self, part: str) -> np.ndarray:
        path = self._data_dir / archive_name(part)

        def make() -> Arrays:
            return {"images": read_characters(path, part, self._side, self._resample)}

        key = f"{_VERSION} {file_digest(path)} {part} {self._side} {self._resample} {PIL.__version__}"
        return cached(self._cache, f"omniglot-{part}", key, make)["images"]

    def _pool(self, split: str, names: tuple[str, ...], images: Mapping[str, np.ndarray]) -> ClassPool:
        stacked = torch.from_numpy(np.concatenate([images[name] for name in names]))[:, None]
        rotations = self._rotations
        if rotations == TRAIN_CLASSES:
            rotations = "classes" if split == "train" else "none"
        augmentation = self._augmentation if split == "train" else None
        sizes = [DRAWINGS] * len(names)
        return ClassPool(stacked, sizes, names, rotations=rotations, split=split, augmentation=augmentation)


def check_side(side: int) -> None:
    """Raise a UserError if images cannot have this side."""
    if not 1 <= side <= ORIGINAL_SIDE:
        raise UserError(f"dataset.side={side!r} must be a number of pixels from 1 to the original {ORIGINAL_SIDE}")


def file_digest(path: Path) -> str:
    """SHA-256 of an archive's bytes, in hexadecimal.

    Raises:
        UserError: the archive cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise OMNIGLOT.problem(path, "no such file") from error
    except OSError as error:
        raise OMNIGLOT.problem(path, f"cannot be read ({error.strerror})") from error
