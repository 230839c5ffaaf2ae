"""Rows of a user's CSV, TSV, JSON or JSON lines file."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaloop.data.texts.text_reading import TextFile, read_file
from metaloop.data.user.own_tasks import OWN
from metaloop.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON = (".json", ".jsonl", ".ndjson")
TABLES = (*DELIMITERS, *JSON)


@dataclass(frozen=True)
class OwnFile:
    """A file of rows.

    Attributes:
        file: its text.
        digest: SHA-256 of its bytes.
        rows: line (in a JSON list: entry) and cells by column.
    """

    file: TextFile
    digest: str
    rows: tuple[tuple[int, Mapping[str, Any]], ...]

    def label(self, row: Mapping[str, Any], line: int, column: str) -> str | None:
        """A row's label; None where it has none, JSON's NaN included. JSON's 1.0 is 1.

        Raises:
            UserError: it is neither a text nor a number.
        """
        value = row.get(column)
        if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
            value = None if math.isnan(value) else int(value)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.file.problem(f"a label is expected in {column!r}, not {str(value)[:40]!r}", line)
        return str(value).strip()

    def check_column(self, column: str, key: str) -> None:
        """Raise a UserError where no row has such a column."""
        if not any(column in row for _, row in self.rows):
            raise self.file.problem(f"no column {column!r}; there are {', '.join(map(repr, self.columns))}; choose with {key}=")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, in their order."""
        return tuple(dict.fromkeys(name for _, row in self.rows for name in row))


def read_rows(path: Path) -> OwnFile:
    """A file of rows, by its ending.

    Raises:
        UserError: it is missing, of another kind, broken, or has no rows.
    """
    file = read_own_text(path, TABLES)
    suffix = path.suffix.lower()
    rows = tuple(file.json_objects() if suffix in JSON else file.csv_rows(DELIMITERS[suffix]))
    if not rows:
        raise file.problem("no rows")
    return OwnFile(file, digest_of(file), rows)


def read_own_text(path: Path, endings: tuple[str, ...]) -> TextFile:
    """A user's file as a text.

    Raises:
        UserError: it is missing, a folder, or has another ending.
    """
    if path.suffix.lower() not in endings or path.is_dir():
        what = "a folder" if path.is_dir() else f"{path.suffix or 'no ending'}"
        raise UserError(f"{path}: {what}, where a file is expected that ends in {', '.join(endings)}")
    return read_file(path, OWN)


def digest_of(file: TextFile) -> str:
    """SHA-256 of a file's bytes, as other programs tell it."""
    with file.path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
