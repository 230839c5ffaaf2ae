"""Labelled texts in CSV or JSON lines: anybody's own, and data sets that are published so."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.data.class_splits import LISTED, by_shares, check_lists, listed
from metaloop.data.distribution import SPLITS
from metaloop.data.texts.text_origins import ORIGINS, OWN
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.data.texts.tokens import Tokenizer
from metaloop.errors import UserError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".json", ".jsonl", ".ndjson")
Row = tuple[TextFile, int, dict[str, Any]]


class TextFiles(Texts):
    """Texts with a label each; classes are labels, and a class is in one split only.

    Which, is said by a column, by lists of classes, or drawn: classes by alphabet are shuffled with ``split_seed`` and shared
    out as ``shares`` say.

    Args:
        tokenizer: the model's; the program gives it.
        files: names of one or more files, .csv, .tsv, .jsonl or .json; all are one.
        data_dir: the folder, or zip archive, of ``files``.
        text_column: CSV column or JSON key of the text; of JSON also a list of words.
        label_column: of the label.
        split_column: of the split, train, validation (or val, valid, dev) or test; None for another way.
        class_lists: of each split the names of its classes, or a file in ``data_dir`` with one a line; classes that no list
            names are left out. None for another way.
        shares: of each split, how many classes it gets in proportion, where neither of these is given.
        split_seed: of that shuffle.
        classes: how many there must be; None for any number.
        source: whose files these are, of :data:`metaloop.data.texts.text_origins.ORIGINS`; None for one's own.
        length: see :class:`Texts`.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: arguments contradict each other.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        files: str | Sequence[str],
        data_dir: str = ".",
        text_column: str = "text",
        label_column: str = "label",
        split_column: str | None = None,
        class_lists: Mapping[str, str | Sequence[str]] | None = None,
        shares: Mapping[str, float] | None = None,
        split_seed: int = 0,
        classes: int | None = None,
        source: str | None = None,
        length: int = 64,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(tokenizer, length, cache_dir)
        self._files = (files,) if isinstance(files, str) else tuple(files)
        if not self._files:
            raise UserError("dataset.files: at least one file")
        if split_column is not None and class_lists is not None:
            raise UserError("dataset.split_column and dataset.class_lists both say how classes are divided: set one to null")
        if source is not None and source not in ORIGINS:
            raise UserError(f"dataset.source={source!r}: one of {', '.join(ORIGINS)}, or null")
        if class_lists is not None:
            check_lists(class_lists)
        self._origin = OWN if source is None else ORIGINS[source]
        self._data_dir, self._text, self._label = Path(data_dir), text_column, label_column
        self._split_column, self._lists, self._classes = split_column, class_lists, classes
        self._shares = dict.fromkeys(SPLITS, 1.0) if shares is None else dict(shares)
        self._seed = split_seed

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        texts: dict[str, list[str]] = {}
        splits: dict[str, str] = {}
        for file, line, row in self._rows():
            label = self._label_of(file, line, row)
            texts.setdefault(label, []).append(file.sentence(file.field(row, self._text, line), line))
            if self._split_column is not None:
                split = self._split_of(file, line, row)
                if splits.setdefault(label, split) != split:
                    what = f"class {label!r} is in {split} here and in {splits[label]} before; give each class one split"
                    raise file.problem(what, line)
        if self._classes is not None and len(texts) != self._classes:
            what = f"{len(texts)} classes, where {self._classes} are expected"
            raise self._origin.problem(self._data_dir, f"{', '.join(self._files)}: {what}")
        return {
            split: TextSplit({name: texts[name] for name in names}) for split, names in self._divided(texts, splits).items()
        }

    def _divided(self, texts: Mapping[str, Sequence[str]], splits: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        """Of each split, its classes."""
        if self._split_column is not None:
            found = {split: sorted(name for name in texts if splits[name] == split) for split in SPLITS}
            empty = [split for split, names in found.items() if not names]
            if empty:
                raise UserError(f"dataset.split_column={self._split_column}: no class is in {', '.join(empty)}")
            return found
        if self._lists is not None:
            return listed(self._lists, texts, lambda name: read_text(self._data_dir, name, self._origin))
        return by_shares(sorted(texts), self._shares, self._seed)

    def _rows(self) -> Iterator[Row]:
        for name in self._files:
            suffix = Path(name).suffix.lower()
            if suffix not in (*_DELIMITERS, *_JSON):
                raise UserError(f"dataset.files: {name}: one of {', '.join((*_DELIMITERS, *_JSON))} is expected")
            file = read_text(self._data_dir, name, self._origin)
            rows = file.json_objects() if suffix in _JSON else file.csv_rows(_DELIMITERS[suffix])
            count = 0
            for count, (line, row) in enumerate(rows, 1):  # noqa: B007 -- looked at after the loop
                yield file, line, row
            if not count:
                raise file.problem("no texts")

    def _label_of(self, file: TextFile, line: int, row: Mapping[str, Any]) -> str:
        label = file.field(row, self._label, line)
        if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
            raise file.problem(f"a label is expected in {self._label!r}, not {str(label)[:40]!r}", line)
        return str(label).strip()

    def _split_of(self, file: TextFile, line: int, row: Mapping[str, Any]) -> str:
        assert self._split_column is not None
        value = str(file.field(row, self._split_column, line)).strip().lower()
        if value not in LISTED:
            raise file.problem(f"{self._split_column}={value!r}: one of {', '.join(LISTED)}", line)
        return LISTED[value]
