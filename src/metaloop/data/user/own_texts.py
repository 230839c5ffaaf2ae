"""A user's own texts: CSV, TSV, JSON, JSON lines, or one text a line."""

from dataclasses import dataclass
from pathlib import Path

from metaloop.data.texts.text_reading import TextFile
from metaloop.data.user.own_files import TABLES, digest_of, read_own_text, read_rows
from metaloop.data.user.own_tasks import Columns

_LINES = ".txt"


@dataclass(frozen=True)
class OwnTexts:
    """The texts of a file, their labels (None where there is none), and the SHA-256 of its content."""

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]
    digest: str


def read_own_texts(path: Path, columns: Columns, *, labelled: bool) -> OwnTexts:
    """A file's texts.

    Raises:
        UserError: the file is missing or broken, a column is missing, or a text is empty.
    """
    file = read_own_text(path, TABLES if labelled else (*TABLES, _LINES))
    if path.suffix.lower() == _LINES:
        return _lines(file)
    found = read_rows(path)
    found.check_column(columns.text, "text")
    if labelled:
        found.check_column(columns.label, "label")
    texts = (found.file.sentence(found.file.field(row, columns.text, line), line) for line, row in found.rows)
    labels = (found.label(row, line, columns.label) for line, row in found.rows)
    return OwnTexts(tuple(texts), tuple(labels), found.digest)


def _lines(file: TextFile) -> OwnTexts:
    lines = file.lines()
    if not lines:
        raise file.problem("no texts")
    texts = tuple(file.sentence(line, number) for number, line in enumerate(lines, 1))
    return OwnTexts(texts, (None,) * len(texts), digest_of(file))
