"""A tokenizer that hashes words and needs no vocabulary file; see :class:`metaloop.types.Tokenizer`."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from metaloop.errors import UserError
from metaloop.models.words import lower_case, split_words


class HashedWords:
    """A tokenizer of lower-case words and single punctuation marks (:func:`split_words`), whose token ids are hashes.

    Nothing is learned or stored. Token 0 is padding.

    Args:
        size: number of token ids; different words may share one.

    Raises:
        UserError: ``size`` is below 2.
    """

    def __init__(self, size: int) -> None:
        if size < 2:
            raise UserError(f"a hashed vocabulary of {size} tokens: at least 2, one of which is padding")
        self.size = size
        self.key = f"hashed words 2, {size}"

    def __call__(self, texts: Sequence[str], length: int) -> Mapping[str, np.ndarray]:
        """Tokenize texts: ``input_ids`` and ``attention_mask`` (texts, length)."""
        return self.with_cut(texts, length)[0]

    def with_cut(self, texts: Sequence[str], length: int) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """See :meth:`metaloop.types.TellsCut.with_cut`."""
        split = [split_words(text) for text in texts]
        return self._packed(split, length), np.array([len(words) > length for words in split], bool)

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Mapping[str, np.ndarray]:
        """Tokenize texts that are split into words; every word is one token."""
        widest = max((len(words) for words in texts), default=0)
        first = np.full((len(texts), widest), -1, np.int64)
        for row, words in enumerate(texts):
            kept = min(len(words), length)
            first[row, :kept] = np.arange(kept)
        return {**self._packed([[lower_case(word) for word in words] for words in texts], length), "first": first}

    def _packed(self, texts: Sequence[Sequence[str]], length: int) -> dict[str, np.ndarray]:
        ids, mask = np.zeros((len(texts), length), np.int32), np.zeros((len(texts), length), np.uint8)
        for row, words in enumerate(texts):
            numbers = [1 + zlib.crc32(word.encode()) % (self.size - 1) for word in words[:length]]
            ids[row, : len(numbers)], mask[row, : len(numbers)] = numbers, 1
        return {"input_ids": ids, "attention_mask": mask}
