"""Labelled texts in CSV or JSON lines: a user's own, and published data sets in these formats."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaloop.data.class_splits import SPLIT_NAMES, by_lists, by_shares, check_lists, split_named
from metaloop.data.copies import check_repeats
from metaloop.data.distribution import SPLITS
from metaloop.data.labels import plain_name, plain_text, tell_alike
from metaloop.data.texts.text_origins import ORIGINS, USER_TEXTS
from metaloop.data.texts.text_reading import TextFile, read_text
from metaloop.data.texts.texts import Texts, TextSplit
from metaloop.errors import UserError
from metaloop.types import Tokenizer

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".json", ".jsonl", ".ndjson")
CONTRADICTIONS = ("refuse", "keep")
Row = tuple[TextFile, int, dict[str, Any]]


class TextFiles(Texts):
    """Texts with one label each; a label is a class, and each class is in one split.

    A class's split comes from a column, from lists of classes, or from a shuffle: the classes in alphabetical order are
    shuffled with ``split_seed`` and divided in proportion to ``shares``. Labels in a user's own files are brought to one
    spelling by :func:`metaloop.data.labels.plain_label`.

    Args:
        tokenizer: the model's tokenizer, passed by the program.
        files: names of one or more files (.csv, .tsv, .jsonl, .json), which are joined.
        data_dir: folder or zip archive with ``files``.
        text_column: CSV column or JSON key of the text, which may also be a list of words in JSON.
        label_column: CSV column or JSON key of the label.
        split_column: column or key of the split: train, validation (or val, valid, dev) or test. None if there is none.
        class_lists: for each split the names of its classes, or the name of a file in ``data_dir`` with one name a line.
            Classes in no list are left out. None if there are no lists.
        shares: for each split its share of the classes, if neither a column nor lists are given.
        split_seed: seed of the shuffle.
        repeats: "apart" if no episode may have equal texts of a user's own in both support and query; "anywhere" if it may.
        contradictions: "refuse" a user's text that has several labels, or "keep" it in all these classes.
        classes: expected number of classes; None for any.
        source: origin of the files, a key of :data:`metaloop.data.texts.text_origins.ORIGINS`; None for a user's own.
        length: see :class:`Texts`.
        cache_dir: see :class:`Texts`.

    Raises:
        UserError: an argument is invalid, or arguments contradict each other.
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
        repeats: str = "apart",
        contradictions: str = "refuse",
        length: int = 64,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(tokenizer, length, cache_dir)
        self._files = (files,) if isinstance(files, str) else tuple(files)
        if not self._files:
            raise UserError("dataset.files must name at least one file")
        if split_column is not None and class_lists is not None:
            raise UserError("dataset.split_column and dataset.class_lists both divide the classes: set one of them to null")
        if source is not None and source not in ORIGINS:
            raise UserError(f"dataset.source={source!r} must be one of {', '.join(ORIGINS)}, or null")
        check_repeats(repeats)
        if contradictions not in CONTRADICTIONS:
            raise UserError(f"dataset.contradictions={contradictions!r} must be one of {', '.join(CONTRADICTIONS)}")
        if class_lists is not None:
            check_lists(class_lists)
        self._origin = USER_TEXTS if source is None else ORIGINS[source]
        self._data_dir, self._text_column, self._label_column = Path(data_dir), text_column, label_column
        self._split_column, self._lists, self._classes = split_column, class_lists, classes
        self._shares = dict.fromkeys(SPLITS, 1.0) if shares is None else dict(shares)
        self._seed = split_seed
        self._apart = repeats == "apart" and source is None
        self._refuses = contradictions == "refuse" and source is None

    def read(self) -> Mapping[str, TextSplit]:
        """See :meth:`Texts.read`."""
        texts: dict[str, list[str]] = {}
        labels = _OneLabel() if self._refuses else None
        splits: dict[str, str] = {}
        for file, line, row in self._rows():
            label = self._label_of(file, line, row)
            text = file.sentence(file.field(row, self._text_column, line), line)
            texts.setdefault(label, []).append(text)
            if labels is not None:
                labels.add(text, label, file, line)
            if self._split_column is not None:
                split = self._split_of(file, line, row)
                if splits.setdefault(label, split) != split:
                    fault = f"class {label!r} is in {split} here and in {splits[label]} before; give each class one split"
                    raise file.problem(fault, line)
        if labels is not None:
            labels.check()
        if self._origin is USER_TEXTS:
            tell_alike(texts, ", ".join(self._files))
        if self._classes is not None and len(texts) != self._classes:
            fault = f"{', '.join(self._files)}: {len(texts)} classes, {self._classes} are expected"
            raise self._origin.problem(self._data_dir, fault)
        return {
            split: TextSplit({name: texts[name] for name in names}, apart=self._apart)
            for split, names in self._divided(texts, splits).items()
        }

    def _divided(self, texts: Mapping[str, Sequence[str]], splits: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        """The classes of each split."""
        if self._split_column is not None:
            divided = {split: sorted(name for name in texts if splits[name] == split) for split in SPLITS}
            empty = [split for split, names in divided.items() if not names]
            if empty:
                raise UserError(f"dataset.split_column={self._split_column}: no class is in {', '.join(empty)}")
            return divided
        if self._lists is not None:
            spelling = str.strip if self._origin is not USER_TEXTS else plain_name
            return by_lists(self._lists, texts, lambda name: read_text(self._data_dir, name, self._origin), spelling)
        return by_shares(sorted(texts), self._shares, self._seed, least=2)

    def _rows(self) -> Iterator[Row]:
        for name in self._files:
            suffix = Path(name).suffix.lower()
            if suffix not in (*_DELIMITERS, *_JSON):
                raise UserError(f"dataset.files: {name} must end in one of {', '.join((*_DELIMITERS, *_JSON))}")
            file = read_text(self._data_dir, name, self._origin)
            rows = file.json_objects() if suffix in _JSON else file.csv_rows(_DELIMITERS[suffix])
            count = 0
            for count, (line, row) in enumerate(rows, 1):  # noqa: B007 -- read after the loop
                yield file, line, row
            if not count:
                raise file.problem("no texts")

    def _label_of(self, file: TextFile, line: int, row: Mapping[str, Any]) -> str:
        value = file.field(row, self._label_column, line)
        if self._origin is USER_TEXTS:
            label = file.label(value, self._label_column, line)
        else:  # a published data set keeps its spelling, by which its classes are ordered
            label = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else None
        if not label:
            raise file.problem(f"column {self._label_column!r} must hold a label, not {str(value)[:40]!r}", line)
        return label

    def _split_of(self, file: TextFile, line: int, row: Mapping[str, Any]) -> str:
        assert self._split_column is not None
        value = file.field(row, self._split_column, line)
        split = split_named(value)
        if split is None:
            raise file.problem(f"{self._split_column}={str(value)[:40]!r} must be one of {', '.join(SPLIT_NAMES)}", line)
        return split


class _OneLabel:
    """Checks that no text has two labels."""

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._first: tuple[TextFile, int, str] | None = None  # the first contradiction: file, line and what is wrong
        self._wrong: set[str] = set()

    def add(self, text: str, label: str, file: TextFile, line: int) -> None:
        shown = plain_text(text)
        before = self._labels.setdefault(shown, label)
        if before != label:
            self._wrong.add(shown)
            self._first = self._first or (file, line, f"{shown[:40]!r} has the labels {before!r} and {label!r}")

    def check(self) -> None:
        """Raise a UserError that names the first contradiction, and how many texts there are like it."""
        if self._first is not None:
            file, line, fault = self._first
            more = f" ({len(self._wrong)} such texts)" if len(self._wrong) > 1 else ""
            raise file.problem(f"{fault}{more}; give each text one label, or set dataset.contradictions=keep", line)
