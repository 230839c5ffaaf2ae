"""HuffPost headlines and Reuters articles in the splits of Bao et al. (2020, ICLR)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metaloop.data.distribution import SPLITS
from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.errors import UserError
from metaloop.types import Tokenizer


@dataclass(frozen=True)
class NewsSet:
    """Expected content of a file.

    Attributes:
        classes: number of classes of each split, in the order of class numbers (src/dataset/loader.py of the authors' code).
        texts: number of texts of each class.
    """

    classes: tuple[int, int, int]
    texts: int


NEWS = {"huffpost": NewsSet((20, 5, 16), 900), "reuters": NewsSet((15, 5, 11), 20)}


class News(Texts):
    """One of the two data sets; a class is a category.

    A line of the file is ``{"text": [words], "label": number}`` as published by the authors, or has the joined words in
    ``raw``.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        name: "huffpost" or "reuters".
        data_dir: folder or zip archive with ``<name>.json``.
        length: see :class:`Texts`.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: the name is unknown.
    """

    def __init__(self, tokenizer: Tokenizer, name: str, data_dir: str, length: int, cache_dir: str | None = None) -> None:
        super().__init__(tokenizer, length, cache_dir)
        if name not in NEWS:
            raise UserError(f"dataset.name={name!r} must be one of {', '.join(NEWS)}")
        self._name, self._data_dir = name, Path(data_dir)

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        texts = news_texts(read_text(self._data_dir, f"{self._name}.json", ORIGINS["news_fewshot"]), NEWS[self._name])
        splits, first = {}, 0
        for split, count in zip(SPLITS, NEWS[self._name].classes, strict=True):
            splits[split] = TextSplit({str(label): texts[label] for label in range(first, first + count)})
            first += count
        return splits


def news_texts(file: TextFile, expected: NewsSet) -> list[list[str]]:
    """Parse the texts of every class.

    Raises:
        UserError: a line is not in this format, or a class has a wrong number of texts.
    """
    texts: list[list[str]] = [[] for _ in range(sum(expected.classes))]
    for line, row in file.json_lines():
        label = file.field(row, "label", line)
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(texts):
            raise file.problem(f"label {label!r} must be a class number from 0 to {len(texts) - 1}", line)
        words = row["raw"] if "raw" in row else file.field(row, "text", line)
        texts[label].append(file.sentence(words, line))
    for label, members in enumerate(texts):
        if len(members) != expected.texts:
            raise file.problem(f"{len(members)} texts of class {label}, not {expected.texts}")
    return texts
