"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each (Lake et al. 2015)."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL
import torch

from metaloop.data.distribution import SPLITS
from metaloop.data.files.archives import RESAMPLING
from metaloop.data.images.omniglot_archives import DRAWINGS, OMNIGLOT, ORIGINAL_SIDE, archive_name, read_characters
from metaloop.data.images.splits import SCHEMES, read_split
from metaloop.data.pool import ROTATIONS, ClassPool
from metaloop.data.user.own_pictures import OwnPictures, PictureForm
from metaloop.errors import UserError
from metaloop.system.cache import Arrays, cache_folder, cached

_VERSION = 1  # raise it when images are prepared otherwise


class Omniglot(OwnPictures):
    """The official archives, divided as one of the papers does it.

    Args:
        data_dir: the folder of ``images_background.zip`` and ``images_evaluation.zip``.
        split_scheme: "finn" (1,100/100/423 characters mixed from all alphabets, Finn et al. 2017), "vinyals"
            (1,028/172/423, Vinyals et al. 2016), "lake" (background and evaluation alphabets, Lake et al. 2015),
            "minimal1" and "minimal2" (five background alphabets, Lake et al. 2019). The split files name our choices.
        rotations: "none", "classes" (each character is four classes: Vinyals et al.) or "augment" (each class of an
            episode is turned by a random multiple of 90 degrees: Finn et al.); in all splits, as in the papers' code.
        side: pixels, at most the original 105.
        resample: "lanczos" smooths the original black and white to greys. "nearest" is what Finn et al.'s code
            comes to: it asks Pillow for Lanczos, which Pillow does not use on black and white images.
        cache_dir: where the prepared images are kept between runs; None takes METALOOP_CACHE, else ~/.cache/metaloop.

    Raises:
        UserError: an argument is not one of these.
    """

    def __init__(
        self,
        data_dir: str,
        split_scheme: str = "finn",
        rotations: str = "none",
        side: int = 28,
        resample: str = "lanczos",
        cache_dir: str | None = None,
    ) -> None:
        for key, value, allowed in (
            ("split_scheme", split_scheme, SCHEMES),
            ("rotations", rotations, ROTATIONS),
            ("resample", resample, tuple(RESAMPLING)),
        ):
            if value not in allowed:
                raise UserError(f"dataset.{key}={value!r}: one of {', '.join(allowed)}")
        check_side(side)
        self._data_dir = Path(data_dir).expanduser()
        self._scheme, self._rotations = split_scheme, rotations
        self._side, self._resample = side, resample
        self._cache = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`; a fault in either archive shows at the first call, whatever it asks for."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        if not self._splits:
            images = self._images()
            self._splits = {split: self._pool(split, names, images) for split, names in read_split(self._scheme).items()}
        return self._splits[name]

    def own_form(self) -> PictureForm:
        """See :meth:`metaloop.data.user.own_pictures.OwnPictures.own_form`."""
        return PictureForm(self._side, resample=self._resample, ink=True)

    def _images(self) -> dict[str, np.ndarray]:
        """(20, side, side) uint8 of each character of both archives."""
        found: dict[str, np.ndarray] = {}
        for part, names in read_split("alphabets").items():
            found.update(zip(names, self._part(part), strict=True))
        return found

    def _part(self, part: str) -> np.ndarray:
        path = self._data_dir / archive_name(part)

        def make() -> Arrays:
            return {"images": read_characters(path, part, self._side, self._resample)}

        key = f"{_VERSION} {file_digest(path)} {part} {self._side} {self._resample} {PIL.__version__}"
        return cached(self._cache, f"omniglot-{part}", key, make)["images"]

    def _pool(self, split: str, names: tuple[str, ...], images: Mapping[str, np.ndarray]) -> ClassPool:
        stacked = torch.from_numpy(np.concatenate([images[name] for name in names]))[:, None]
        return ClassPool(stacked, [DRAWINGS] * len(names), names, rotations=self._rotations, split=split)


def check_side(side: int) -> None:
    """Raise a UserError unless images can be made this large."""
    if not 1 <= side <= ORIGINAL_SIDE:
        raise UserError(f"dataset.side={side!r}: pixels, from 1 to the original {ORIGINAL_SIDE}")


def file_digest(path: Path) -> str:
    """SHA-256 of an archive's bytes.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise OMNIGLOT.problem(path, "no such file") from error
    except OSError as error:
        raise OMNIGLOT.problem(path, f"cannot be read ({error.strerror})") from error
