"""The interface through which data sets turn texts into token ids."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class Tokenizer(Protocol):
    """Converts texts to arrays of token ids. A model's class names its tokenizer in the attribute ``tokenizer``.

    Attributes:
        key: identifies vocabulary and settings; part of the cache key of the tokens.
    """

    key: str

    def __call__(self, texts: Sequence[str], length: int) -> Mapping[str, np.ndarray]:
        """Tokenize texts, cut or padded to ``length`` tokens.

        Returns:
            ``input_ids`` and ``attention_mask`` (texts, length) integers, with a mask of 0 for padding. Further arrays of that
            shape are allowed.
        """
        ...

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Mapping[str, np.ndarray]:
        """Tokenize texts that are already split into words.

        Returns:
            As for :meth:`__call__`, and ``first`` (texts, words): the position of each word's first token, -1 for a word
            without a token or after the cut.
        """
        ...
