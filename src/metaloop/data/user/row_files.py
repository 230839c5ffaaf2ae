"""Rows of a user's CSV, TSV, JSON or JSON lines file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloop.data.texts.text_reading import TextFile, read_file, shown
from metaloop.data.user.tasks import USER_FILES
from metaloop.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON = (".json", ".jsonl", ".ndjson")
TABLES = (*DELIMITERS, *JSON)


@dataclass(frozen=True)
class RowFile:
    """A file of rows.

    Attributes:
        file: the file's text.
        digest: SHA-256 of the file's bytes, in hexadecimal.
        rows: of each row, its line (its entry in a JSON list) and its cells by column.
    """

    file: TextFile
    digest: str
    rows: tuple[tuple[int, Mapping[str, Any]], ...]

    def label(self, row: Mapping[str, Any], line: int, column: str) -> str | None:
        """A row's label in its one spelling; None for an empty cell.

        Raises:
            UserError: the label is a list or an object.
        """
        return self.file.label(row.get(column), column, line)

    def check_column(self, column: str, key: str) -> None:
        """Raise a UserError if no row has this column. ``key`` is the argument that names the column."""
        if not any(column in row for _, row in self.rows):
            raise self.file.problem(f"no column {column!r}; set {key}= to one of {shown(self.columns)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in order of appearance."""
        return tuple(dict.fromkeys(name for _, row in self.rows for name in row))


def read_rows(path: Path) -> RowFile:
    """Read a file of rows in the format that its suffix names.

    Raises:
        UserError: the file is missing, broken, empty, or of another format.
    """
    file = read_user_text(path, TABLES)
    suffix = path.suffix.lower()
    rows = tuple(file.json_objects() if suffix in JSON else file.csv_rows(DELIMITERS[suffix]))
    if not rows:
        raise file.problem("no rows")
    return RowFile(file, digest_of(file), rows)


def read_user_text(path: Path, suffixes: tuple[str, ...]) -> TextFile:
    """Read the text of a user's file.

    Raises:
        UserError: the path is missing, a folder, or has another suffix.
    """
    if path.suffix.lower() not in suffixes or path.is_dir():
        kind = "a folder" if path.is_dir() else f"a file with the suffix {path.suffix!r}"
        raise UserError(f"{path} is {kind}; a file is needed that ends in {', '.join(suffixes)}")
    return read_file(path, USER_FILES)


def digest_of(file: TextFile) -> str:
    """SHA-256 of a file's bytes in hexadecimal, as ``sha256sum`` prints it."""
    with file.path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
