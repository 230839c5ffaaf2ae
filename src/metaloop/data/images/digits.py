"""The 8x8 handwritten digits of scikit-learn."""

import numpy as np
import torch

from metaloop.data.distribution import SPLITS, check_split
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.errors import UserError

_SHARES = {"train": (0.0, 0.5), "validation": (0.5, 0.75), "test": (0.75, 1.0)}  # of each class, in the order of the file
_SIDE = 8  # pixels
_LEVELS = 16  # the value of full ink


class Digits(UserImageDataset):
    """1,797 digits of 8x8 grey pixels in ten classes of 174 to 183 images (Alpaydin and Kaynak 1998; CC BY 4.0).

    Every split has all ten classes, with different images: in the order of the file, the first half of each class is for
    meta-training, the next quarter for meta-validation, the last quarter for meta-test.

    Raises:
        UserError: scikit-learn, which contains the file, is not installed. Nothing is downloaded.
    """

    def __init__(self) -> None:
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`."""
        check_split(name)
        if not self._splits:
            images, labels = _read()
            self._splits = {split: _pool(images, labels, split) for split in SPLITS}
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return ImageForm(_SIDE, mode="ink")


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Images (images, 8, 8) with greys in [0, 16], and digits (images,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("dataset=digits is part of scikit-learn, which is not installed: pip install scikit-learn") from error
    digits = load_digits()
    return digits.images, digits.target


def _pool(images: np.ndarray, labels: np.ndarray, split: str) -> ClassPool:
    low, high = _SHARES[split]
    stacks = [images[labels == digit] for digit in range(10)]
    parts = [stack[round(low * len(stack)) : round(high * len(stack))] for stack in stacks]
    bytes_ = torch.from_numpy(np.concatenate(parts) * (255 / _LEVELS)).round().to(torch.uint8)
    return ClassPool(bytes_[:, None], [len(part) for part in parts], [str(digit) for digit in range(10)], split=split)
