"""FewRel: which relation a sentence states between two of its entities (Han et al. 2018, EMNLP)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.data.texts.tokens import Tokenizer
from metaloop.errors import UserError

_VALIDATION = 14  # relations
MARKS = {"h": ("#", "#"), "t": ("$", "$")}


class FewRel(Texts):
    """Relations as classes; the words of the sentence with marks around head and tail.

    The official test set is not public. So the 16 relations of ``val_wiki.json`` are for meta-test, and of the 64 of
    ``train_wiki.json``, by alphabet of their Wikidata names (P101, P102 and so on), the last 14 are for meta-validation.

    Args:
        tokenizer: the model's; the program gives it.
        data_dir: the folder, or zip archive, of both files.
        length: see :class:`Texts`.
        head: what is put before and after the head's words.
        tail: before and after the tail's.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: marks are not two each.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        data_dir: str,
        length: int,
        head: tuple[str, str] = MARKS["h"],
        tail: tuple[str, str] = MARKS["t"],
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(tokenizer, length, cache_dir)
        for key, marks in (("head", head), ("tail", tail)):
            if isinstance(marks, str) or len(marks) != 2:
                raise UserError(f"dataset.{key}={marks!r}: two marks, to stand before and after")
        self._data_dir, self._marks = Path(data_dir), {"h": tuple(head), "t": tuple(tail)}

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        seen, held_out = (
            relations(read_text(self._data_dir, name, ORIGINS["fewrel"]), self._marks)
            for name in ("train_wiki.json", "val_wiki.json")
        )
        both = sorted(set(seen) & set(held_out))
        if both or len(seen) <= _VALIDATION:
            what = f"relation {both[0]} is in val_wiki.json, too" if both else f"only {len(seen)} relations"
            raise ORIGINS["fewrel"].problem(self._data_dir / "train_wiki.json", what)
        names = sorted(seen)
        train, validation = names[:-_VALIDATION], names[-_VALIDATION:]
        return {
            "train": TextSplit({name: seen[name] for name in train}),
            "validation": TextSplit({name: seen[name] for name in validation}),
            "test": TextSplit(held_out),
        }


def relations(file: TextFile, marks: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """The sentences of each relation, with the ``marks`` of head ("h") and tail ("t").

    Raises:
        UserError: this is not FewRel's format.
    """
    content = file.json()
    if not isinstance(content, dict) or not content:
        raise file.problem("not FewRel's format: relations with lists of sentences are expected")
    found = {}
    for relation, sentences in content.items():
        if not isinstance(sentences, list) or not sentences:
            raise file.problem(f"relation {relation}: a list of sentences is expected")
        found[relation] = [_marked(file, sentence, f"{relation}[{n}]", marks) for n, sentence in enumerate(sentences)]
    return found


def _marked(file: TextFile, sentence: Any, key: str, marks: Mapping[str, tuple[str, ...]]) -> str:
    """The words with marks put around the first mention of both entities."""
    if not isinstance(sentence, dict) or not {"tokens", "h", "t"} <= set(sentence):
        raise file.problem(f"{key}: tokens, h and t are expected")
    words = sentence["tokens"]
    file.sentence(words, key=key)
    if not isinstance(words, list):
        raise file.problem(f"{key}: a list of tokens is expected")
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    for entity, (left, right) in marks.items():
        places = _places(sentence[entity], len(words))
        if places is None:
            raise file.problem(f"{key}: {entity} is not [name, id, [[positions of its tokens]]]")
        before.setdefault(places[0], []).insert(0, left)
        after.setdefault(places[-1], []).append(right)
    return " ".join(part for k, word in enumerate(words) for part in (*before.get(k, ()), word, *after.get(k, ())))


def _places(entity: Any, words: int) -> list[int] | None:
    """The positions of an entity's first mention; None where there are none."""
    try:
        places = list(entity[2][0])
    except (TypeError, LookupError):
        return None
    sound = places and all(isinstance(place, int) and 0 <= place < words for place in places)
    return places if sound else None
