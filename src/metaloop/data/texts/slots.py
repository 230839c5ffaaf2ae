"""Few-shot slot filling on SNIPS (Coucke et al. 2018) and ATIS (Hemphill et al. 1990), as released by Goo et al. (2018)."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from metaloop.data.class_splits import by_shares
from metaloop.data.distribution import SPLITS, Dataset, check_split
from metaloop.data.texts.slot_reading import Utterance, read_utterances
from metaloop.data.texts.word_pool import WordPool
from metaloop.errors import UserError
from metaloop.system.cache import Arrays, cache_folder, cached
from metaloop.types import Tokenizer

_VERSION = 1  # increase it when the preparation of tokens changes


@dataclass(frozen=True)
class _Group:
    """Utterances with the slots that episodes draw from."""

    name: str
    utterances: Sequence[Utterance]
    slots: Sequence[str]


class Slots(Dataset):
    """Episodes of utterances; a class is a slot and an example is a word. Slots that are not in an episode count as no slot.

    Labels are slots without the prefixes B- and I- (as in Yang and Katiyar 2020, EMNLP, and Few-NERD), so that neighbouring
    words of one slot form one entity.

    With ``intents``, the utterances of all files are divided by intent, and an episode has a single intent (as in Hou et al.
    2020, ACL). A slot that occurs with several intents is then a class of its own for each. Without ``intents``, slots are
    divided between the splits, and each split has the utterances of its official file.

    Inputs are ``input_ids`` and ``attention_mask`` (length,) of the whole utterance, and ``place`` (1,), the position of the
    word's first token.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        name: folder of the data: "snips", "atis", or another folder in the same format.
        data_dir: folder or zip archive with ``<name>/{train,valid,test}/{label,seq.in,seq.out}``.
        length: number of tokens to which utterances are padded; none may be longer.
        intents: intents of each split; None to divide slots instead.
        shares: share of the slots for each split; None to divide intents instead.
        seed: seed of the division of slots.
        least: smallest number of utterances of a split that a slot must occur in; rarer slots count as no slot.
        cache_dir: see :class:`metaloop.data.texts.texts.Texts`.
    """

    needs_tokenizer: ClassVar[bool] = True

    def __init__(
        self,
        tokenizer: Tokenizer,
        name: str,
        data_dir: str,
        length: int,
        intents: Mapping[str, Sequence[str]] | None,
        shares: Mapping[str, float] | None,
        seed: int,
        least: int,
        cache_dir: str | None = None,
    ) -> None:
        if find_spec("seqeval") is None:
            raise UserError("slots are scored by seqeval's entity F1: pip install 'metaloop[text]'")
        for key, value in (("length", length), ("least", least)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"dataset.{key}={value!r} must be a whole number of at least 1")
        if (intents is None) is (shares is None):
            raise UserError(
                "dataset.intents divides utterances and dataset.shares divides slots: set exactly one, the other null"
            )
        self._tokenizer, self._name, self._place, self._length = tokenizer, name, Path(data_dir), length
        self._intents, self._shares, self._seed, self._least = intents, shares, seed, least
        self._folder = cache_folder(cache_dir)
        self._splits: dict[str, WordPool] = {}

    def split(self, name: str) -> WordPool:
        """See :meth:`Dataset.split`. The first call reads all splits, and reports a fault in any of them."""
        check_split(name)
        if not self._splits:
            parts = {split: read_utterances(self._place, self._name, split) for split in SPLITS}
            groups = self._by_slot(parts, self._shares) if self._shares is not None else self._by_intent(parts)
            self._splits = {split: self._pool(groups[split], split) for split in SPLITS}
        return self._splits[name]

    def _by_intent(self, parts: Mapping[str, Sequence[Utterance]]) -> dict[str, list[_Group]]:
        assert self._intents is not None
        by_intent: dict[str, list[Utterance]] = {}
        for utterance in chain.from_iterable(parts.values()):
            by_intent.setdefault(utterance.intent, []).append(utterance)
        requested = Counter(chain.from_iterable(self._intents.values()))
        wrong = [intent for intent, times in requested.items() if times > 1 or intent not in by_intent]
        if set(self._intents) != set(SPLITS) or not all(self._intents.values()) or wrong:
            raise UserError(
                f"dataset.intents: each of {', '.join(SPLITS)} needs intents, each named once; "
                f"{f'{wrong[0]!r} is unknown or named twice; ' if wrong else ''}the intents are {', '.join(sorted(by_intent))}"
            )
        return {split: [_group(intent, by_intent[intent], self._least) for intent in self._intents[split]] for split in SPLITS}

    def _by_slot(self, parts: Mapping[str, Sequence[Utterance]], shares: Mapping[str, float]) -> dict[str, list[_Group]]:
        common = set.intersection(*(set(_group("", utterances, self._least).slots) for utterances in parts.values()))
        chosen = by_shares(sorted(common), shares, self._seed)
        return {split: [_Group("", parts[split], chosen[split])] for split in SPLITS}

    def _pool(self, groups: Sequence[_Group], split: str) -> WordPool:
        names = [f"{group.name}.{slot}" if group.name else slot for group in groups for slot in group.slots]
        if not names:
            raise UserError(f"dataset.least={self._least}: no slot of the {split} split occurs in that many utterances")
        utterances = [utterance for group in groups for utterance in group.utterances]
        inputs = self._tokens(utterances)
        tags, first = [], 0
        for group in groups:
            number = {slot: first + index for index, slot in enumerate(group.slots)}
            tags += [number.get(slot, -1) for utterance in group.utterances for slot in utterance.slots]
            first += len(group.slots)
        lengths = [len(utterance.words) for utterance in utterances]
        return WordPool(inputs, lengths, torch.tensor(tags), names, [len(group.slots) for group in groups], split)

    def _tokens(self, utterances: Sequence[Utterance]) -> dict[str, torch.Tensor]:
        """The inputs of every word: the tokens of its utterance, and its position."""
        content = hashlib.sha256("\n".join(" ".join(utterance.words) for utterance in utterances).encode())
        key = f"{_VERSION} words {self._tokenizer.key} {self._length} {content.hexdigest()}"
        texts = [utterance.words for utterance in utterances]
        tokens = cached(self._folder, "word_tokens", key, lambda: _tokenize(self._tokenizer, texts, self._length))
        sentence = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
        whole = {name: torch.from_numpy(tokens[name][sentence]) for name in ("input_ids", "attention_mask")}
        return whole | {"place": torch.from_numpy(tokens["place"])}


def _group(name: str, utterances: Sequence[Utterance], least: int) -> _Group:
    """A group with all slots that occur in at least ``least`` utterances."""
    count = Counter(slot for utterance in utterances for slot in set(utterance.slots) if slot)
    return _Group(name, utterances, sorted(slot for slot, times in count.items() if times >= least))


def _tokenize(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], length: int) -> Arrays:
    """Ids int32 and mask uint8 (sentences, length), and ``place`` (words, 1) int32.

    Raises:
        UserError: a sentence has more than ``length`` tokens.
    """
    tokens = tokenizer.words(texts, length)
    places = []
    for words, first, mask in zip(texts, tokens["first"], tokens["attention_mask"], strict=True):
        if first[len(words) - 1] < 0 and mask.all():
            raise UserError(f"dataset.length={length} cuts off words of {' '.join(words)[:60]!r}; increase it")
        # A word without a token in the vocabulary is represented by the first token of the sentence.
        places.append(np.maximum(first[: len(words)], 0))
    ids, mask = tokens["input_ids"].astype(np.int32), tokens["attention_mask"].astype(np.uint8)
    return {"input_ids": ids, "attention_mask": mask, "place": np.concatenate(places)[:, None].astype(np.int32)}
