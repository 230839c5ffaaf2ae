"""Text files of data sets, from a folder or a zip archive: decoded, parsed and refused with file, line and remedy."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from metaloop.data.files.archives import Origin, open_archive
from metaloop.errors import UserError

_LARGEST = 2**30  # bytes of a text file in an archive


@dataclass(frozen=True)
class TextFile:
    """One file's whole text.

    Attributes:
        path: where it lies; of an archive's entry, the archive's path and the entry's name.
        text: decoded from UTF-8.
        origin: says the remedy in messages.
    """

    path: Path
    text: str
    origin: Origin

    def problem(self, what: str, line: int | None = None) -> UserError:
        """The error that names this file, the line where there is one, and the remedy."""
        return self.origin.problem(self.path, what if line is None else f"line {line}: {what}")

    def lines(self) -> list[str]:
        r"""Its lines without their ends, which are \n, \r\n or \r alone; blank ones at the end of the file are none."""
        # Not splitlines, which takes rarer signs, such as U+2028 or a form feed within a text, for a line's end, too.
        found = [line.removesuffix("\n") for line in io.StringIO(self.text, newline=None)]
        while found and not found[-1].strip():
            found.pop()
        return found

    def json(self) -> Any:
        """The file as one JSON value.

        Raises:
            UserError: it is none.
        """
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise self.problem(f"not JSON, or cut short ({error})") from error

    def json_lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Line number and object of every line that is not blank.

        Raises:
            UserError: a line is no JSON object.
        """
        for number, line in enumerate(self.lines(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise self.problem(f"not JSON, or cut short ({error})", number) from error
            if not isinstance(value, dict):
                raise self.problem(f"a JSON object is expected, not {line.strip()[:40]!r}", number)
            yield number, value

    def json_objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The objects of a JSON list, with their number in it from 1; of JSON lines, with their line.

        Raises:
            UserError: it is neither.
        """
        if not self.text.lstrip().startswith("["):
            yield from self.json_lines()
            return
        for number, value in enumerate(self.json(), 1):
            if not isinstance(value, dict):
                raise self.problem(f"entry {number}: a JSON object is expected, not {str(value)[:40]!r}")
            yield number, value

    def csv_rows(self, delimiter: str = ",") -> Iterator[tuple[int, dict[str, Any]]]:
        """Line number (of a row's end) and cells by column of every row; the first row names the columns.

        Raises:
            UserError: there is no header, it names a column twice, a row has more or fewer cells than it, or a quotation
                does not end.
        """
        reader = csv.reader(io.StringIO(self.text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise self.problem("no header: the first row must name the columns", 1)
            twice = [name for place, name in enumerate(header) if name in header[:place]]
            if twice:
                raise self.problem(f"column {twice[0]!r} is named twice", reader.line_num)
            for row in reader:
                if row and len(row) != len(header):
                    raise self.problem(f"{len(row)} cells, where the header has {len(header)}", reader.line_num)
                if row:
                    yield reader.line_num, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise self.problem(f"not readable as CSV ({error})", reader.line_num) from error

    def field(self, row: Mapping[str, Any], name: str, line: int) -> Any:
        """``row[name]``.

        Raises:
            UserError: there is no such column.
        """
        if name not in row:
            raise self.problem(f"no column {name!r}; there are {', '.join(map(repr, row)) or 'none'}", line)
        return row[name]

    def sentence(self, value: Any, line: int | None = None, key: str = "") -> str:
        """``value``, a text or a list of words, as a text that is not empty.

        Raises:
            UserError: it is something else, empty, or holds half a character.
        """
        where = f"{key}: " if key else ""
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            value = " ".join(value)
        if not isinstance(value, str):
            raise self.problem(f"{where}a text is expected, not {str(value)[:40]!r}", line)
        if not value.strip():
            raise self.problem(f"{where}an empty text", line)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise self.problem(f"{where}not Unicode text ({error})", line) from error
        return value


def read_text(place: Path, name: str, origin: Origin) -> TextFile:
    """The file ``name`` of the folder ``place``, or of the archive ``place`` or ``place``.zip, in whatever folder of it.

    ``name`` may begin with folders. An archive may be called anything, since downloads have names of their own.

    Raises:
        UserError: it is missing, no sound archive, or not UTF-8.
    """
    place = place.expanduser()
    whole = place.resolve()  # "." has no name
    packed = place if place.suffix == ".zip" or place.is_file() else whole.parent / f"{whole.name}.zip"
    if place.is_dir() or not packed.exists():
        return _decoded(place / name, _bytes(place / name, packed, origin), origin)
    with open_archive(packed, origin, _LARGEST) as archive:
        end = PurePosixPath(name).parts
        found = [entry for entry in archive.namelist() if PurePosixPath(entry).parts[-len(end) :] == end]
        if len(found) != 1:
            raise origin.problem(packed, f"{len(found) or 'no'} entries named {name}, where one is expected")
        content = archive.read(found[0])
    return _decoded(packed / found[0], content, origin)


def read_file(path: Path, origin: Origin) -> TextFile:
    """A file by its path.

    Raises:
        UserError: it is missing or not UTF-8.
    """
    path = path.expanduser()
    return _decoded(path, _bytes(path, None, origin), origin)


def _bytes(path: Path, packed: Path | None, origin: Origin) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise origin.problem(path, "no such file" + (f", and no {packed.name} beside its folder" if packed else "")) from error
    except OSError as error:
        raise origin.problem(path, f"cannot be read ({error.strerror})") from error


def _decoded(path: Path, content: bytes, origin: Origin) -> TextFile:
    try:
        return TextFile(path, content.decode("utf-8-sig"), origin)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise origin.problem(path, f"line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
