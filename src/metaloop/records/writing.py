"""Writing of records and tables, each file atomically."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from metaloop.records.schema import RECORD, SCHEMA, Record
from metaloop.system.files import replace_atomically, write_atomically
from metaloop.system.spreadsheets import safe_cell


def record_as_dict(record: Record) -> dict[str, Any]:
    """Content of record.json as a reader of the file gets it, with lists instead of tuples."""
    content: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(record)}))
    return content


def write_record(directory: Path, record: Record) -> Path:
    """Write record.json into the directory of a run or an evaluation; return its path."""
    return write_json(directory / RECORD, record_as_dict(record))


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write plain data and dataclasses as JSON; return the path.

    Raises:
        TypeError: a value is neither. An existing file is left unchanged.
    """
    return write_atomically(path, json.dumps(content, indent=1, default=_fields) + "\n")


def _fields(value: Any) -> dict[str, Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} is neither plain data nor a dataclass")


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length as CSV in UTF-8, with texts that spreadsheets do not take for formulas.

    Raises:
        ValueError: the columns differ in length.
    """

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(map(safe_cell, columns))
            writer.writerows(map(safe_cell, row) for row in zip(*columns.values(), strict=True))

    replace_atomically(path, write)
