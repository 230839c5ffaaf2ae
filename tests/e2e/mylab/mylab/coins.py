"""A data set."""

import torch

from metaloop.data.distribution import SPLITS, Dataset
from metaloop.data.pool import ClassPool


class Coins(Dataset):
    """A class is a row of sixteen biased coins, an example one toss of them all.

    Args:
        classes: of each split.
        tosses: of each class.
    """

    def __init__(self, classes: int, tosses: int) -> None:
        self._splits = {name: self._toss(number, name, classes, tosses) for number, name in enumerate(SPLITS)}

    @staticmethod
    def _toss(seed: int, name: str, classes: int, tosses: int) -> ClassPool:
        random = torch.Generator().manual_seed(seed)
        bias = torch.rand(classes, 1, 16, generator=random).expand(classes, tosses, 16)
        x = torch.bernoulli(bias, generator=random).flatten(0, 1)  # the examples of a class are neighbours
        return ClassPool(x, [tosses] * classes, [f"{name}-{number}" for number in range(classes)], split=name)

    def split(self, name: str) -> ClassPool:
        """See the base class."""
        return self._splits[name]
