"""Data sets of texts: read by class, tokenised once, stored as token ids."""

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from metaloop.data.copies import Copies, count_repeats, tell_repeats
from metaloop.data.distribution import SPLITS, check_split
from metaloop.data.labels import plain_text
from metaloop.data.out_of_scope import WithOutOfScope
from metaloop.data.pool import ClassPool
from metaloop.data.user.tasks import Columns, UserExampleDataset, UserRows
from metaloop.data.user.texts import read_user_texts
from metaloop.errors import UserError
from metaloop.records.schema import ExampleCounts
from metaloop.system.cache import Arrays, cache_folder, cached
from metaloop.types import TellsCut, Tokenizer

log = logging.getLogger(__name__)

_VERSION = 2  # increase it when the preparation of tokens changes
_SMALL = ("attention_mask", "cut")  # arrays of zeros and ones
_CHUNK = 1024  # texts tokenised between two updates of the progress bar
_PROGRESS_FROM = 20_000  # texts; fewer are tokenised without a progress bar


@dataclass(frozen=True)
class TextSplit:
    """The texts of one split.

    Attributes:
        classes: the texts of each class, by class name.
        groups: number of consecutive classes in each group, if all classes of an episode must come from one group; else empty.
        out_of_scope: texts that belong to no class.
        apart: whether no episode has equal texts in both its support and its query set.
        rejections: number of out-of-scope texts in each episode, as further queries that should be rejected.
    """

    classes: Mapping[str, Sequence[str]]
    groups: Sequence[int] = ()
    out_of_scope: Sequence[str] = ()
    rejections: int = 0
    apart: bool = False

    @property
    def texts(self) -> list[str]:
        """All texts, class by class, followed by the out-of-scope texts."""
        return [*chain.from_iterable(self.classes.values()), *self.out_of_scope]


class Texts(UserExampleDataset):
    """Base class of text data sets. A subclass implements :meth:`read`.

    All texts are tokenised when the first split is requested. The tokens are kept in a checksummed cache, whose key covers
    texts and tokenizer. Inputs are ``input_ids`` and ``attention_mask``, (length,) int64 each.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        length: number of tokens to which texts are cut and padded.
        cache_dir: folder of the cache; None means METALOOP_CACHE, or ``metaloop`` in the user's cache folder.
    """

    needs_tokenizer: ClassVar[bool] = True

    def __init__(self, tokenizer: Tokenizer, length: int, cache_dir: str | None = None) -> None:
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise UserError(f"dataset.length={length!r} must be a whole number of tokens, at least 1")
        self._tokenizer, self._length = tokenizer, length
        self._folder = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool | WithOutOfScope] = {}
        self._counts: dict[str, ExampleCounts] = {}

    @abstractmethod
    def read(self) -> Mapping[str, TextSplit]:
        """Read the texts of every split.

        Raises:
            UserError: a file is missing or broken. The message names file, line and remedy.
        """

    def split(self, name: str) -> ClassPool | WithOutOfScope:
        """See :meth:`Dataset.split`. The first call reads all splits, and reports a fault in any of them."""
        check_split(name)
        if not self._splits:
            splits = self.read()
            tokens = dict(self._tokens([text for split in SPLITS for text in splits[split].texts]))
            cut = tokens.pop("cut", None)
            repeats = count_repeats({split: _shown(splits[split]) for split in SPLITS})
            first = 0
            for split in SPLITS:
                stop = first + len(splits[split].texts)
                inputs = {key: torch.from_numpy(array[first:stop]) for key, array in tokens.items()}
                self._splits[split] = _distribution(inputs, splits[split], split)
                number_cut = None if cut is None else int(cut[first:stop].sum())
                self._counts[split] = ExampleCounts(stop - first, *repeats[split], number_cut)
                first = stop
            self._tell_cut()
            tell_repeats(self._counts, "texts", apart=splits["test"].apart)
        return self._splits[name]

    def counts(self) -> Mapping[str, ExampleCounts]:
        """See :meth:`Dataset.counts`."""
        return self._counts

    def _tell_cut(self) -> None:
        cut = {split: counts.cut for split, counts in self._counts.items() if counts.cut}
        if cut:
            total, texts = sum(cut.values()), sum(counts.examples for counts in self._counts.values())
            where = ", ".join(f"{split} {count:,}" for split, count in cut.items())
            log.warning("%s (%s)", cut_message(total, texts, self._length), where)

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """See :meth:`metaloop.data.user.tasks.UserFileDataset.read_user_file`."""
        content = read_user_texts(path, columns, labelled=labelled)
        tokens = dict(tokenize(self._tokenizer, content.texts, self._length))
        cut = int(tokens.pop("cut", np.zeros(1)).sum())
        if cut:
            log.warning("%s: %s", path, cut_message(cut, len(content.texts), self._length))
        inputs = {name: torch.from_numpy(array) for name, array in tokens.items()}
        hashes = tuple(hashlib.sha256(plain_text(text).encode()).hexdigest() for text in content.texts)
        return UserRows(path, content.digest, inputs, content.labels, content.texts, hashes, cut=cut)

    def _tokens(self, texts: Sequence[str]) -> Arrays:
        content = hashlib.sha256()
        for text in texts:
            encoded = text.encode()
            content.update(len(encoded).to_bytes(8, "little") + encoded)
        key = f"{_VERSION} {self._tokenizer.key} {self._length} {content.hexdigest()}"
        return cached(self._folder, "tokens", key, lambda: tokenize(self._tokenizer, texts, self._length))


def _distribution(inputs: Mapping[str, torch.Tensor], texts: TextSplit, split: str) -> ClassPool | WithOutOfScope:
    sizes = [len(members) for members in texts.classes.values()]
    in_classes = {name: array[: sum(sizes)] for name, array in inputs.items()}
    copies = Copies.of(_shown(texts)) if texts.apart else None
    pool = ClassPool(in_classes, sizes, list(texts.classes), groups=texts.groups, split=split, copies=copies)
    if not texts.rejections:
        return pool
    return WithOutOfScope(pool, {name: array[sum(sizes) :] for name, array in inputs.items()}, texts.rejections)


def _shown(texts: TextSplit) -> list[list[str]]:
    """What a reader sees of the texts of each class; equal texts are copies."""
    return [[plain_text(text) for text in members] for members in texts.classes.values()]


def cut_message(cut: int, texts: int, length: int) -> str:
    """Say how many texts were cut to ``length`` tokens."""
    share = f"{100 * cut / texts:.1f}"
    return f"{cut:,} of {texts:,} texts ({share} %) have more tokens than dataset.length={length}; the rest of them is not read"


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Arrays:
    """Tokenize texts, with a progress bar on a terminal if there are many.

    Returns:
        Arrays (texts, length) by name; ``attention_mask`` is uint8, all others are int32. And ``cut`` (texts,) uint8, if the
        tokenizer tells.
    """
    parts = []
    for start in _with_progress(range(0, len(texts), _CHUNK), len(texts)):
        part = _tokens(tokenizer, texts[start : start + _CHUNK], length)
        parts.append({name: array.astype(np.uint8 if name in _SMALL else np.int32) for name, array in part.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tokens(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Arrays:
    if not isinstance(tokenizer, TellsCut):
        return tokenizer(texts, length)
    arrays, cut = tokenizer.with_cut(texts, length)
    return {**arrays, "cut": cut}


def _with_progress(starts: range, texts: int) -> Iterable[int]:
    if texts < _PROGRESS_FROM:
        return starts
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(starts, f"tokenising {texts:,} texts", console=console, disable=not console.is_terminal, transient=True)
