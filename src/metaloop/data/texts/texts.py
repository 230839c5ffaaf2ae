"""Data sets of texts: read by class, tokenised once, kept as token ids."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from metaloop.data.distribution import SPLITS
from metaloop.data.outside import WithOutside
from metaloop.data.pool import ClassPool
from metaloop.data.texts.tokens import Tokenizer
from metaloop.data.user.own_tasks import Columns, OwnExamples, OwnRows
from metaloop.data.user.own_texts import read_own_texts
from metaloop.errors import UserError
from metaloop.system.cache import Arrays, cache_folder, cached

_VERSION = 1  # raise it when tokens are prepared otherwise
_CHUNK = 1024  # texts tokenised between two updates of the progress bar
_LARGE = 20_000  # texts, from which on there is a bar


@dataclass(frozen=True)
class TextSplit:
    """The texts of one split.

    Attributes:
        classes: texts of each class, by its name.
        groups: how many consecutive classes each group has, where all classes of an episode are to be of one group; else none.
        outside: texts of no class, of which
        asked: so many are further queries of each episode, to be rejected.
    """

    classes: Mapping[str, Sequence[str]]
    groups: Sequence[int] = ()
    outside: Sequence[str] = ()
    asked: int = 0

    @property
    def texts(self) -> list[str]:
        """All of them: class by class, and then those outside."""
        return [*chain.from_iterable(self.classes.values()), *self.outside]


class Texts(OwnExamples):
    """What data sets of texts share; one only says what it :meth:`read` s.

    All texts are tokenised when the first split is asked for, and kept in a checksummed cache whose key is texts and tokeniser.
    Inputs are ``input_ids`` and ``attention_mask``, (length,) int64 each.

    Args:
        tokenizer: the model's; the program gives it.
        length: tokens, to which texts are cut and padded.
        cache_dir: where tokens are kept between runs; None takes METALOOP_CACHE, else ~/.cache/metaloop.
    """

    needs_tokenizer: ClassVar[bool] = True

    def __init__(self, tokenizer: Tokenizer, length: int, cache_dir: str | None = None) -> None:
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise UserError(f"dataset.length={length!r}: tokens of a text, a whole number of at least 1")
        self._tokenizer, self._length = tokenizer, length
        self._folder = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool | WithOutside] = {}

    @abstractmethod
    def read(self) -> Mapping[str, TextSplit]:
        """The texts of every split.

        Raises:
            UserError: a file is missing or broken: names file, line and remedy.
        """

    def split(self, name: str) -> ClassPool | WithOutside:
        """See :meth:`Dataset.split`; a fault in any split's texts shows at the first call."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        if not self._splits:
            found = self.read()
            tokens = self._tokens([text for split in SPLITS for text in found[split].texts])
            first = 0
            for split in SPLITS:
                stop = first + len(found[split].texts)
                inputs = {key: torch.from_numpy(array[first:stop]) for key, array in tokens.items()}
                self._splits[split] = _distribution(inputs, found[split], split)
                first = stop
        return self._splits[name]

    def read_own(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> OwnRows:
        """See :meth:`metaloop.data.user.own_tasks.OwnTasks.read_own`."""
        found = read_own_texts(path, columns, labelled=labelled)
        tokens = tokenised(self._tokenizer, found.texts, self._length)
        inputs = {name: torch.from_numpy(array) for name, array in tokens.items()}
        same = tuple(hashlib.sha256(text.encode()).hexdigest() for text in found.texts)
        return OwnRows(path, found.digest, inputs, found.labels, found.texts, same)

    def _tokens(self, texts: Sequence[str]) -> Arrays:
        content = hashlib.sha256()
        for text in texts:
            encoded = text.encode()
            content.update(len(encoded).to_bytes(8, "little") + encoded)
        key = f"{_VERSION} {self._tokenizer.key} {self._length} {content.hexdigest()}"
        return cached(self._folder, "tokens", key, lambda: tokenised(self._tokenizer, texts, self._length))


def _distribution(inputs: Mapping[str, torch.Tensor], found: TextSplit, split: str) -> ClassPool | WithOutside:
    sizes = [len(members) for members in found.classes.values()]
    own = {name: array[: sum(sizes)] for name, array in inputs.items()}
    pool = ClassPool(own, sizes, list(found.classes), groups=found.groups, split=split)
    if not found.asked:
        return pool
    return WithOutside(pool, {name: array[sum(sizes) :] for name, array in inputs.items()}, found.asked)


def tokenised(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Arrays:
    """Arrays (texts, length) by name: masks uint8, ids int32. Many texts show a bar where there is a terminal."""
    parts = []
    for start in _shown(range(0, len(texts), _CHUNK), len(texts)):
        part = tokenizer(texts[start : start + _CHUNK], length)
        parts.append({name: array.astype(np.uint8 if name == "attention_mask" else np.int32) for name, array in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _shown(starts: range, texts: int) -> Iterable[int]:
    if texts < _LARGE:
        return starts
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(starts, f"tokenising {texts:,} texts", console=console, disable=not console.is_terminal, transient=True)
