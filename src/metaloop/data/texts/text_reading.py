"""Reading of text files from a folder or a zip archive. Errors name file, line and remedy."""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from metaloop.data.files.archives import Origin, open_archive
from metaloop.data.labels import plain_label
from metaloop.errors import UserError

_MAX_BYTES = 2**30  # of a text file in an archive
_NAMED = 10  # columns that a message names
LARGEST_TEXT = 2**24  # letters of a cell, or of a line of texts
# str.splitlines would also split at rarer characters within a text, such as U+2028 or a form feed.
_BLANK = re.compile(r"[ \t\r\n]*")  # that JSON allows between values
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True)
class TextFile:
    """The whole text of one file.

    Attributes:
        path: path of the file; for an entry of an archive, the archive's path followed by the entry's name.
        text: content, decoded from UTF-8.
        origin: origin of the data, which supplies the remedy in messages.
    """

    path: Path
    text: str
    origin: Origin

    def problem(self, what: str, line: int | None = None) -> UserError:
        """An error that names this file, the line if given, and the remedy."""
        return self.origin.problem(self.path, what if line is None else f"line {line}: {what}")

    def lines(self) -> list[str]:
        r"""Lines without their ends (\n, \r\n or \r) and without blank lines at the end of the file."""
        lines = list(self._each_line())
        while lines and not lines[-1].strip():
            lines.pop()
        return lines

    def _each_line(self) -> Iterator[str]:
        for number, match in enumerate(_LINE.finditer(self.text), 1):
            if match.end() - match.start() > LARGEST_TEXT:
                raise self.problem(f"more than {LARGEST_TEXT:,} letters; check the line ends", number)
            yield match[0].rstrip("\r\n")

    def json(self) -> Any:
        """Parse the file as one JSON value.

        Raises:
            UserError: the file is not JSON.
        """
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise self.problem(f"not JSON, or cut short ({error})") from error

    def json_lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Parse JSON lines into pairs of line number and object. Blank lines are skipped.

        Raises:
            UserError: a line is not a JSON object.
        """
        for number, line in enumerate(self._each_line(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self.problem(f"not JSON, or cut short ({error})", number) from error
            if not isinstance(value, dict):
                raise self.problem(f"must be a JSON object, not {line.strip()[:40]!r}", number)
            yield number, value

    def json_objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Parse a JSON list or JSON lines into pairs of position (counted from 1) or line number, and object.

        Raises:
            UserError: the file has neither format.
        """
        if not self.text.lstrip().startswith("["):
            yield from self.json_lines()
            return
        for number, value in enumerate(self._json_entries(), 1):
            if not isinstance(value, dict):
                raise self.problem(f"entry {number} must be a JSON object, not {str(value)[:40]!r}")
            yield number, value

    def _json_entries(self) -> Iterator[Any]:
        """Parse a JSON list entry by entry, because the objects of a long list take several times the memory of its text."""
        decoder, text = json.JSONDecoder(), self.text
        place = _BLANK.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
        separator = "]" if text[place : place + 1] == "]" else ","
        place += separator == "]"
        while separator == ",":
            try:
                value, place = decoder.raw_decode(text, place)
            except (ValueError, RecursionError) as error:
                raise self.problem(f"not JSON, or cut short ({error})") from error
            yield value
            place = _BLANK.match(text, place).end()  # type: ignore[union-attr]
            separator = text[place : place + 1]
            place = _BLANK.match(text, place + 1).end()  # type: ignore[union-attr]
        if separator != "]" or text[place:].strip():
            raise self.problem(f"not JSON, or cut short (at character {place})")

    def csv_rows(self, delimiter: str = ",") -> Iterator[tuple[int, dict[str, Any]]]:
        """Parse CSV into pairs of line number (where the row ends) and cells by column. The first row names the columns.

        Raises:
            UserError: the header is missing or names a column twice, a row has more or fewer cells than the header, or a
                quotation does not end.
        """
        rows = self._csv_cells(delimiter)
        line, header = next(rows, (1, []))
        if not header:
            raise self.problem("no header: the first row must name the columns", 1)
        if twice := _repeated(header):
            raise self.problem(f"column {twice[0]!r} is named twice", line)
        for line, row in rows:
            if row and len(row) != len(header):
                raise self.problem(f"{len(row)} cells, but the header has {len(header)}", line)
            if row:
                yield line, dict(zip(header, row, strict=True))

    def _csv_cells(self, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Pairs of line number and cells of every row, the header and blank rows included."""
        reader = csv.reader((match[0] for match in _LINE.finditer(self.text)), delimiter=delimiter, strict=True)
        while True:
            previous = csv.field_size_limit(LARGEST_TEXT)  # of the whole process, so only while a row is read
            try:
                row = next(reader, None)
            except csv.Error as error:
                if "field larger than field limit" in str(error):
                    raise self.problem(
                        f"a cell of more than {LARGEST_TEXT:,} letters; check the quotation marks", reader.line_num
                    ) from error
                raise self.problem(f"not readable as CSV ({error})", reader.line_num) from error
            finally:
                csv.field_size_limit(previous)
            if row is None:
                return
            yield reader.line_num, row

    def field(self, row: Mapping[str, Any], name: str, line: int) -> Any:
        """The cell of a row in the column ``name``.

        Raises:
            UserError: there is no such column.
        """
        if name not in row:
            raise self.problem(f"no column {name!r}; the columns are {shown(row)}", line)
        return row[name]

    def label(self, value: Any, column: str, line: int) -> str | None:
        """Convert a user's cell to a label in its one spelling (:func:`plain_label`); None if the cell is empty.

        Raises:
            UserError: the cell holds a list or an object.
        """
        try:
            return plain_label(value)
        except TypeError as error:
            raise self.problem(f"column {column!r} must hold a label, not {str(value)[:40]!r}", line) from error

    def sentence(self, value: Any, line: int | None = None, key: str = "") -> str:
        """Convert a text or a list of words to a text.

        Raises:
            UserError: the value is of another type, empty, or not valid Unicode.
        """
        where = f"{key}: " if key else ""
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            value = " ".join(value)
        if not isinstance(value, str):
            raise self.problem(f"{where}must be a text, not {str(value)[:40]!r}", line)
        if not value.strip():
            raise self.problem(f"{where}an empty text", line)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.problem(f"{where}not Unicode text ({error})", line) from error
        return value


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def shown(columns: Collection[str]) -> str:
    """The names of columns for a message, the first of many."""
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return (", ".join(map(repr, islice(columns, _NAMED))) or "none") + more


def read_text(place: Path, name: str, origin: Origin) -> TextFile:
    """Read a file from a folder or from a zip archive.

    Args:
        place: the folder, or the archive with or without its suffix .zip. An archive may have any name.
        name: name of the file, which may begin with folders. In an archive the file may lie in any folder.
        origin: origin of the data, for messages.

    Raises:
        UserError: the file is missing, the archive is broken, or the content is not UTF-8.
    """
    place = place.expanduser()
    absolute = place.resolve()  # "." has no name
    archive_path = place if place.suffix == ".zip" or place.is_file() else absolute.parent / f"{absolute.name}.zip"
    if place.is_dir() or not archive_path.exists():
        return _decode(place / name, _read_bytes(place / name, archive_path, origin), origin)
    with open_archive(archive_path, origin, _MAX_BYTES) as archive:
        end = PurePosixPath(name).parts
        entries = [entry for entry in archive.namelist() if PurePosixPath(entry).parts[-len(end) :] == end]
        if len(entries) != 1:
            raise origin.problem(archive_path, f"{len(entries) or 'no'} entries named {name}; exactly one is needed")
        content = archive.read(entries[0])
    return _decode(archive_path / entries[0], content, origin)


def read_file(path: Path, origin: Origin) -> TextFile:
    """Read a file by its path.

    Raises:
        UserError: the file is missing or not UTF-8.
    """
    path = path.expanduser()
    return _decode(path, _read_bytes(path, None, origin), origin)


def _read_bytes(path: Path, archive: Path | None, origin: Origin) -> bytes:
    if path.exists() and not path.is_file() and not path.is_dir():  # to open a pipe would wait for ever
        raise origin.problem(path, "is no file, but a pipe, device or socket")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        hint = f", and no {archive.name} beside its folder" if archive else ""
        raise origin.problem(path, f"no such file{hint}") from error
    except OSError as error:
        raise origin.problem(path, f"cannot be read ({error.strerror})") from error


def _decode(path: Path, content: bytes, origin: Origin) -> TextFile:
    try:
        return TextFile(path, content.decode("utf-8-sig"), origin)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise origin.problem(path, f"line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
