"""The 8x8 handwritten digits that scikit-learn ships."""

import numpy as np
import torch

from metaloop.data.distribution import SPLITS
from metaloop.data.pool import ClassPool
from metaloop.data.user.own_pictures import OwnPictures, PictureForm
from metaloop.errors import UserError

_SHARES = {"train": (0.0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1.0)}  # of each class, in the file's order
_SIDE = 8  # pixels
_LEVELS = 16  # of grey


class Digits(OwnPictures):
    """1,797 digits of 8x8 pixels in 16 greys, ten classes of 174 to 183 (Alpaydin and Kaynak 1998; CC BY 4.0).

    The ten classes are in every split; the images differ: the first half of each class in the file's order is for
    meta-training, the next quarter for meta-validation, the last for meta-test.

    Raises:
        UserError: scikit-learn, which holds the file, is not installed; nothing is downloaded.
    """

    def __init__(self) -> None:
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        if not self._splits:
            images, labels = _read()
            self._splits = {split: _pool(images, labels, split) for split in SPLITS}
        return self._splits[name]

    def own_form(self) -> PictureForm:
        """See :meth:`metaloop.data.user.own_pictures.OwnPictures.own_form`."""
        return PictureForm(_SIDE, ink=True)


def _read() -> tuple[np.ndarray, np.ndarray]:
    """(images, 8, 8) greys in [0, 16], (images,) digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("the digits are part of scikit-learn, which is not installed: pip install scikit-learn") from error
    found = load_digits()
    return found.images, found.target


def _pool(images: np.ndarray, labels: np.ndarray, split: str) -> ClassPool:
    low, high = _SHARES[split]
    stacks = [images[labels == digit] for digit in range(10)]
    parts = [stack[round(low * len(stack)) : round(high * len(stack))] for stack in stacks]
    bytes_ = torch.from_numpy(np.concatenate(parts) * (255 / _LEVELS)).round().to(torch.uint8)
    return ClassPool(bytes_[:, None], [len(part) for part in parts], [str(digit) for digit in range(10)], split=split)
