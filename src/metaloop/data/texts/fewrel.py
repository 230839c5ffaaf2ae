"""FewRel: classification of the relation that a sentence states between two entities (Han et al. 2018, EMNLP)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.errors import UserError
from metaloop.types import Tokenizer

_VALIDATION = 14  # relations for meta-validation
MARKS = {"h": ("#", "#"), "t": ("$", "$")}


class FewRel(Texts):
    """Relations as classes; a text is the sentence with marks around the head and the tail of the relation.

    The official test set is not public. So the 16 relations of ``val_wiki.json`` are for meta-test. The 64 relations of
    ``train_wiki.json`` are sorted by their Wikidata names (P101, P102 and so on), and the last 14 are for meta-validation.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        data_dir: folder or zip archive with both files.
        length: see :class:`Texts`.
        head: marks before and after the words of the head.
        tail: marks before and after the words of the tail.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: head or tail does not have two marks.
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
                raise UserError(f"dataset.{key}={marks!r} must be a list of two marks, one before and one after the words")
        self._data_dir, self._marks = Path(data_dir), {"h": tuple(head), "t": tuple(tail)}

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        train_file, test_file = (
            read_relations(read_text(self._data_dir, name, ORIGINS["fewrel"]), self._marks)
            for name in ("train_wiki.json", "val_wiki.json")
        )
        both = sorted(set(train_file) & set(test_file))
        if both or len(train_file) <= _VALIDATION:
            fault = f"relation {both[0]} is also in val_wiki.json" if both else f"only {len(train_file)} relations"
            raise ORIGINS["fewrel"].problem(self._data_dir / "train_wiki.json", fault)
        names = sorted(train_file)
        train, validation = names[:-_VALIDATION], names[-_VALIDATION:]
        return {
            "train": TextSplit({name: train_file[name] for name in train}),
            "validation": TextSplit({name: train_file[name] for name in validation}),
            "test": TextSplit(test_file),
        }


def read_relations(file: TextFile, marks: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Parse the sentences of each relation, with the ``marks`` of head ("h") and tail ("t").

    Raises:
        UserError: the file is not in FewRel's format.
    """
    content = file.json()
    if not isinstance(content, dict) or not content:
        raise file.problem("not in FewRel's format, which maps relations to lists of sentences")
    relations = {}
    for relation, sentences in content.items():
        if not isinstance(sentences, list) or not sentences:
            raise file.problem(f"relation {relation} must be a list of sentences")
        relations[relation] = [_mark(file, sentence, f"{relation}[{n}]", marks) for n, sentence in enumerate(sentences)]
    return relations


def _mark(file: TextFile, sentence: Any, key: str, marks: Mapping[str, tuple[str, ...]]) -> str:
    """Put marks around the first mention of both entities and join the words."""
    if not isinstance(sentence, dict) or not {"tokens", "h", "t"} <= set(sentence):
        raise file.problem(f"{key} must have the keys tokens, h and t")
    words = sentence["tokens"]
    file.sentence(words, key=key)
    if not isinstance(words, list):
        raise file.problem(f"{key}: tokens must be a list")
    before: dict[int, list[str]] = {}
    after: dict[int, list[str]] = {}
    for entity, (left, right) in marks.items():
        positions = _first_mention(sentence[entity], len(words))
        if positions is None:
            raise file.problem(f"{key}: {entity} is not [name, id, [[positions of its tokens]]]")
        before.setdefault(positions[0], []).insert(0, left)
        after.setdefault(positions[-1], []).append(right)
    return " ".join(part for k, word in enumerate(words) for part in (*before.get(k, ()), word, *after.get(k, ())))


def _first_mention(entity: Any, words: int) -> list[int] | None:
    """Token positions of an entity's first mention; None if they are missing or invalid."""
    try:
        positions = list(entity[2][0])
    except (TypeError, LookupError):
        return None
    valid = positions and all(isinstance(position, int) and 0 <= position < words for position in positions)
    return positions if valid else None
