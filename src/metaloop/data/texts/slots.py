"""Few-shot slot filling: SNIPS (Coucke et al. 2018) and ATIS (Hemphill et al. 1990) as released by Goo et al. (2018)."""

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
from metaloop.data.distribution import SPLITS, Dataset
from metaloop.data.texts.slot_reading import Utterance, read_utterances
from metaloop.data.texts.tokens import Tokenizer
from metaloop.data.texts.word_pool import WordPool
from metaloop.errors import UserError
from metaloop.system.cache import Arrays, cache_folder, cached

_VERSION = 1  # raise it when tokens are prepared otherwise


@dataclass(frozen=True)
class _Group:
    """Utterances, and those of their slots that episodes are about."""

    name: str
    utterances: Sequence[Utterance]
    slots: Sequence[str]


class Slots(Dataset):
    """Episodes of utterances; a class is a slot, an example a word. Slots that an episode is not about count as no slot.

    Labels are slots without B- and I- (as in Yang and Katiyar 2020, EMNLP, and Few-NERD): neighbours of a slot are one entity.

    With ``intents`` the utterances of all files are divided by intent, and an episode is of one (as in Hou et al. 2020, ACL);
    slots that several intents have are then as many classes. Without, slots are divided, and each split has the utterances of
    its own official file.

    Inputs are ``input_ids`` and ``attention_mask`` (length,) of the whole utterance and ``place`` (1,), where in it the word
    begins.

    Args:
        tokenizer: the model's; the program gives it.
        name: the data's folder: "snips", "atis", or one's own in that format.
        data_dir: the folder or zip archive with ``<name>/{train,valid,test}/{label,seq.in,seq.out}``.
        length: tokens, to which utterances are padded; none may be longer.
        intents: of each split; None to divide slots.
        shares: of the slots, where those are divided.
        seed: of their division.
        least: utterances of a split that a slot must be in, or it counts as none.
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
                raise UserError(f"dataset.{key}={value!r}: a whole number of at least 1")
        if (intents is None) is (shares is None):
            raise UserError(
                "dataset.intents divides utterances, dataset.shares divides slots: give one, and null for the other"
            )
        self._tokenizer, self._name, self._place, self._length = tokenizer, name, Path(data_dir), length
        self._intents, self._shares, self._seed, self._least = intents, shares, seed, least
        self._folder = cache_folder(cache_dir)
        self._splits: dict[str, WordPool] = {}

    def split(self, name: str) -> WordPool:
        """See :meth:`Dataset.split`; a fault in any split's utterances shows at the first call."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        if not self._splits:
            parts = {split: read_utterances(self._place, self._name, split) for split in SPLITS}
            groups = self._by_slot(parts, self._shares) if self._shares is not None else self._by_intent(parts)
            self._splits = {split: self._pool(groups[split], split) for split in SPLITS}
        return self._splits[name]

    def _by_intent(self, parts: Mapping[str, Sequence[Utterance]]) -> dict[str, list[_Group]]:
        assert self._intents is not None
        known: dict[str, list[Utterance]] = {}
        for utterance in chain.from_iterable(parts.values()):
            known.setdefault(utterance.intent, []).append(utterance)
        named = Counter(chain.from_iterable(self._intents.values()))
        wrong = [intent for intent, times in named.items() if times > 1 or intent not in known]
        if set(self._intents) != set(SPLITS) or not all(self._intents.values()) or wrong:
            raise UserError(
                f"dataset.intents: each of {', '.join(SPLITS)} needs intents, each named once; "
                f"{f'wrong is {wrong[0]!r}; ' if wrong else ''}there are {', '.join(sorted(known))}"
            )
        return {split: [_group(intent, known[intent], self._least) for intent in self._intents[split]] for split in SPLITS}

    def _by_slot(self, parts: Mapping[str, Sequence[Utterance]], shares: Mapping[str, float]) -> dict[str, list[_Group]]:
        common = set.intersection(*(set(_group("", utterances, self._least).slots) for utterances in parts.values()))
        chosen = by_shares(sorted(common), shares, self._seed)
        return {split: [_Group("", parts[split], chosen[split])] for split in SPLITS}

    def _pool(self, groups: Sequence[_Group], split: str) -> WordPool:
        names = [f"{group.name}.{slot}" if group.name else slot for group in groups for slot in group.slots]
        if not names:
            raise UserError(f"dataset.least={self._least}: no slot of the {split} split is in so many utterances")
        utterances = [utterance for group in groups for utterance in group.utterances]
        inputs = self._tokens(utterances)
        tags, first = [], 0
        for group in groups:
            number = {slot: first + place for place, slot in enumerate(group.slots)}
            tags += [number.get(slot, -1) for utterance in group.utterances for slot in utterance.slots]
            first += len(group.slots)
        lengths = [len(utterance.words) for utterance in utterances]
        return WordPool(inputs, lengths, torch.tensor(tags), names, [len(group.slots) for group in groups], split)

    def _tokens(self, utterances: Sequence[Utterance]) -> dict[str, torch.Tensor]:
        """Inputs of every word."""
        content = hashlib.sha256("\n".join(" ".join(utterance.words) for utterance in utterances).encode())
        key = f"{_VERSION} words {self._tokenizer.key} {self._length} {content.hexdigest()}"
        texts = [utterance.words for utterance in utterances]
        tokens = cached(self._folder, "word_tokens", key, lambda: _tokenised(self._tokenizer, texts, self._length))
        sentence = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
        whole = {name: torch.from_numpy(tokens[name][sentence]) for name in ("input_ids", "attention_mask")}
        return whole | {"place": torch.from_numpy(tokens["place"])}


def _group(name: str, utterances: Sequence[Utterance], least: int) -> _Group:
    count = Counter(slot for utterance in utterances for slot in set(utterance.slots) if slot)
    return _Group(name, utterances, sorted(slot for slot, times in count.items() if times >= least))


def _tokenised(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], length: int) -> Arrays:
    """Ids int32 and mask uint8 (sentences, length), and ``place`` (words, 1) int32.

    Raises:
        UserError: a sentence has more tokens than that.
    """
    found = tokenizer.words(texts, length)
    places = []
    for words, first, mask in zip(texts, found["first"], found["attention_mask"], strict=True):
        if first[len(words) - 1] < 0 and mask.all():
            raise UserError(
                f"dataset.length={length} cuts off words of {' '.join(words)[:60]!r}, which would be left out; raise it"
            )
        # Signs that a vocabulary has no token for are represented by what begins the sentence.
        places.append(np.maximum(first[: len(words)], 0))
    ids, mask = found["input_ids"].astype(np.int32), found["attention_mask"].astype(np.uint8)
    return {"input_ids": ids, "attention_mask": mask, "place": np.concatenate(places)[:, None].astype(np.int32)}
