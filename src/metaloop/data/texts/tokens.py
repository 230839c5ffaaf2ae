"""What turns texts into token ids, as data sets see it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class Tokenizer(Protocol):
    """Texts to arrays of token ids. A model's class says by its ``tokenizer`` which one it reads.

    Attributes:
        key: names vocabulary and settings; part of the key under which tokens are cached.
    """

    key: str

    def __call__(self, texts: Sequence[str], length: int) -> Mapping[str, np.ndarray]:
        """``input_ids`` and ``attention_mask`` (texts, length) integers, cut or padded with a mask of 0.

        Further arrays of that shape are allowed.
        """
        ...

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Mapping[str, np.ndarray]:
        """The same for texts that are split into words.

        Also ``first`` (texts, words): the position of each word's first token, -1 where it has none or was cut off.
        """
        ...
