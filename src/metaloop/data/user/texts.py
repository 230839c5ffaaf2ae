"""A user's texts: a CSV, TSV, JSON or JSON lines file, or one text a line."""

from dataclasses import dataclass
from pathlib import Path

from metaloop.data.texts.text_reading import TextFile
from metaloop.data.user.row_files import TABLES, digest_of, read_rows, read_user_text
from metaloop.data.user.tasks import Columns

_LINES = ".txt"  # one text a line, without labels


@dataclass(frozen=True)
class UserTexts:
    """The texts of a file, their labels (None for a text without one), and the SHA-256 of the file."""

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]
    digest: str


def read_user_texts(path: Path, columns: Columns, *, labelled: bool) -> UserTexts:
    """Read the texts of a file.

    Raises:
        UserError: the file is missing or broken, a column is missing, or a text is empty.
    """
    file = read_user_text(path, TABLES if labelled else (*TABLES, _LINES))
    if path.suffix.lower() == _LINES:
        return _read_lines(file)
    table = read_rows(path)
    table.check_column(columns.text, "text")
    if labelled:
        table.check_column(columns.label, "label")
    texts = (table.file.sentence(table.file.field(row, columns.text, line), line) for line, row in table.rows)
    labels = (table.label(row, line, columns.label) for line, row in table.rows)
    return UserTexts(tuple(texts), tuple(labels), table.digest)


def _read_lines(file: TextFile) -> UserTexts:
    lines = file.lines()
    if not lines:
        raise file.problem("no texts")
    texts = tuple(file.sentence(line, number) for number, line in enumerate(lines, 1))
    return UserTexts(texts, (None,) * len(texts), digest_of(file))
