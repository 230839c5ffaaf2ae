"""Tokenizers of encoders: a stored model's own, and one that hashes words for encoders without a vocabulary."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase

from metaloop.errors import UserError
from metaloop.models.words import lower_case, split_words

_PAD, _FIRST, _LAST, _RESERVED = 0, 1, 2, 3  # ids of the hashing tokenizer's special tokens, and their number
Arrays = Mapping[str, np.ndarray]


class StoredTokenizer:
    """A tokenizer of the transformers library; see :class:`metaloop.types.Tokenizer`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"model.name_or_path={name!r}: its tokenizer has no tokenizer.json, which gives the positions of words"
            )
        if tokenizer.pad_token is None:
            raise UserError(
                f"model.name_or_path={name!r}: its tokenizer has no padding token, so it does not belong to an encoder"
            )
        self._tokenizer = tokenizer
        content = tokenizer.backend_tokenizer.to_str()
        self.key = f"{type(tokenizer).__name__} {hashlib.sha256(content.encode()).hexdigest()}"

    def __call__(self, texts: Sequence[str], length: int) -> Arrays:
        """Return ``input_ids`` and ``attention_mask`` (texts, length), padded and cut, with the model's special tokens."""
        return self.with_cut(texts, length)[0]

    def with_cut(self, texts: Sequence[str], length: int) -> tuple[Arrays, np.ndarray]:
        """See :meth:`metaloop.types.TellsCut.with_cut`."""
        encoding = self._encoded(list(texts), length, split=False)
        return self._arrays(encoding), np.array([bool(each.overflowing) for each in encoding.encodings or ()], bool)

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Arrays:
        """Return the same for texts split into words, and ``first`` (texts, words): a word's first position, -1 if cut off."""
        encoding = self._encoded([list(words) for words in texts], length, split=True)
        first = np.full((len(texts), max(map(len, texts), default=0)), -1, np.int64)
        for row in range(len(texts)):
            for place, word in reversed(list(enumerate(encoding.word_ids(row)))):
                if word is not None:
                    first[row, word] = place
        return self._arrays(encoding) | {"first": first}

    def _encoded(self, texts: list[str] | list[list[str]], length: int, *, split: bool) -> BatchEncoding:
        encoding: BatchEncoding = self._tokenizer(
            texts,
            is_split_into_words=split,
            padding="max_length",
            truncation=True,
            max_length=length,
            padding_side="right",
            return_attention_mask=True,
        )
        return encoding

    @staticmethod
    def _arrays(encoding: Mapping[str, list[list[int]]]) -> dict[str, np.ndarray]:
        return {name: np.asarray(encoding[name], np.int64) for name in ("input_ids", "attention_mask")}


class HashingTokenizer:
    """A tokenizer of lower-case words and punctuation marks, hashed to ids; for encoders with random weights.

    For the words see :func:`metaloop.models.words.split_words`.

    Id 0 is padding, 1 begins a text and 2 ends it. Different words may share an id.

    Args:
        vocabulary: number of token ids.

    Raises:
        UserError: ``vocabulary`` leaves no ids for words.
    """

    def __init__(self, vocabulary: int) -> None:
        if vocabulary <= _RESERVED:
            raise UserError(
                f"model.config.vocab_size={vocabulary}: at least {_RESERVED + 1}, because {_RESERVED} ids are special tokens"
            )
        self._words = vocabulary - _RESERVED
        self.key = f"hashed words 2, {vocabulary}"

    def __call__(self, texts: Sequence[str], length: int) -> Arrays:
        """See :meth:`StoredTokenizer.__call__`."""
        return self.with_cut(texts, length)[0]

    def with_cut(self, texts: Sequence[str], length: int) -> tuple[Arrays, np.ndarray]:
        """See :meth:`metaloop.types.TellsCut.with_cut`."""
        split = [split_words(text) for text in texts]
        return self._padded(split, length), np.array([len(words) > length - 2 for words in split], bool)

    def words(self, texts: Sequence[Sequence[str]], length: int) -> Arrays:
        """See :meth:`StoredTokenizer.words`; every word is one token."""
        first = np.full((len(texts), max(map(len, texts), default=0)), -1, np.int64)
        for row, words in enumerate(texts):
            kept = min(len(words), length - 2)
            first[row, :kept] = np.arange(1, kept + 1)
        return self._padded([[lower_case(word) for word in words] for words in texts], length) | {"first": first}

    def _padded(self, texts: Sequence[Sequence[str]], length: int) -> dict[str, np.ndarray]:
        ids, mask = np.full((len(texts), length), _PAD, np.int64), np.zeros((len(texts), length), np.int64)
        for row, words in enumerate(texts):
            tokens = [_FIRST, *(self._number(word) for word in words[: length - 2]), _LAST]
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        return {"input_ids": ids, "attention_mask": mask}

    def _number(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()  # Python's hash differs between processes
        return _RESERVED + int.from_bytes(digest, "little") % self._words
