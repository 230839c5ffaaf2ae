"""ARFF, the text format of algorithm-selection scenarios: numbers, texts and nominal values in dense rows."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from metaloop.errors import UserError

_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.+)", re.IGNORECASE)
_MISSING = ("?", "nan", "")


@dataclass(frozen=True)
class Arff:
    """The contents of an ARFF file.

    Attributes:
        name: name of the file, for messages.
        columns: names of the attributes.
        rows: cells of each row as texts.
        lines: number of each row's line, from 1.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> list[str]:
        """Cells of an attribute.

        Raises:
            UserError: there is no such attribute.
        """
        if name not in self.columns:
            raise UserError(f"{self.name} has no attribute {name!r}; it has {', '.join(self.columns[:8])}")
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """Cells of an attribute as numbers, nan for missing ones (``?`` or ``NaN``).

        Raises:
            UserError: there is no such attribute, or a cell is neither a finite number nor missing.
        """
        return [self._number(cell, name, line) for cell, line in zip(self.column(name), self.lines, strict=True)]

    def _number(self, cell: str, name: str, line: int) -> float:
        if cell.lower() in _MISSING:
            return math.nan
        try:
            value = float(cell)
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            raise UserError(f"{self.name}, line {line}: {name} is {cell!r}; it must be a finite number, or ? if it is missing")
        return value


def read_arff(text: str, name: str) -> Arff:
    """Read the text of an ARFF file.

    Raises:
        UserError: the text is no dense ARFF; names the line.
    """
    columns: list[str] = []
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    in_data = False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("%"):
            continue
        if in_data:
            rows.append(_cells(line, len(columns), f"{name}, line {number}"))
            lines.append(number)
        elif match := _ATTRIBUTE.fullmatch(line):
            columns.append(match[1].strip("'\""))
        elif line.lower().startswith("@data"):
            in_data = True
        elif not line.lower().startswith("@relation"):
            raise UserError(
                f"{name}, line {number}: {line[:40]!r} is no line of ARFF; @relation, @attribute or @data comes here"
            )
    if not in_data or not columns:
        raise UserError(f"{name}: no ARFF file; it must have @attribute lines and @data")
    if len(set(columns)) < len(columns):
        raise UserError(f"{name}: two attributes have the same name")
    return Arff(name, tuple(columns), tuple(rows), tuple(lines))


def _cells(line: str, count: int, where: str) -> tuple[str, ...]:
    if line.startswith("{"):
        raise UserError(f"{where}: sparse rows of ARFF cannot be read; write all cells")
    quote = "'" if "'" in line and '"' not in line else '"'
    cells = tuple(cell.strip() for cell in next(csv.reader([line], quotechar=quote, skipinitialspace=True)))
    if len(cells) != count:
        raise UserError(f"{where}: {len(cells)} cells for {count} attributes")
    return cells


def write_arff(relation: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[object]]) -> str:
    """Write ARFF.

    Args:
        relation: name of the relation.
        columns: name and type of each attribute, such as ("fold", "NUMERIC").
        rows: cells of each row; nan becomes ``?``.
    """
    header = [f"@RELATION {relation}", "", *(f"@ATTRIBUTE {name} {kind}" for name, kind in columns), "", "@DATA"]
    return "\n".join([*header, *(",".join(map(_cell, row)) for row in rows)]) + "\n"


def _cell(value: object) -> str:
    return "?" if isinstance(value, float) and math.isnan(value) else str(value)
