"""Columns of a user's table as numbers: numbers, truth values, dates and categories."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from metaloop.data.labels import plain_label
from metaloop.data.user.numerals import EXPECTED, finite_number, is_infinite, is_missing

NUMBER, TRUTH, DATE, CATEGORY = "number", "truth", "date", "category"
EXPECTATIONS = {
    NUMBER: EXPECTED,
    TRUTH: "true or false",
    DATE: "a date such as 2026-03-01 or 2026-03-01 14:30",
    CATEGORY: "a text",
}
_TRUTH = {"true": 1.0, "false": 0.0}
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.]\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class TableColumn:
    """How the cells of a column become numbers.

    Attributes:
        name: name of the column.
        kind: "number"; "truth" (0 or 1); "date" (days since 1970, in UTC); or "category".
        categories: the categories in alphabetical order, of a column of categories.
        one_hot: whether a column of three or more categories is one number for each, 1 for the cell's. Else it is one number,
            the place of the category in alphabetical order.
    """

    name: str
    kind: str = NUMBER
    categories: tuple[str, ...] = ()
    one_hot: bool = True

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the numbers."""
        return tuple(f"{self.name}={each}" for each in self.categories) if self._spread else (self.name,)

    @property
    def _spread(self) -> bool:
        return self.one_hot and len(self.categories) > 2

    def numbers(self, cell: Any) -> list[float] | None:
        """The numbers of a cell, nan for a missing value and an unknown category; None if it is of another kind."""
        if isinstance(cell, list | dict):
            return None
        count = len(self.categories) if self._spread else 1
        if self.kind != CATEGORY:
            value = math.nan if is_missing(cell) else _READERS[self.kind](cell)
            return None if value is None else [value]
        category = category_of(cell)
        if category not in self.categories:
            return [math.nan] * count
        place = self.categories.index(category)
        return [float(place == each) for each in range(count)] if self._spread else [float(place)]


def category_of(cell: Any) -> str | None:
    """The category of a cell in its one spelling; None for an empty cell."""
    return None if isinstance(cell, list | dict) else plain_label(cell)


def kind_of(cell: Any) -> str | None:
    """The kind of a column that holds this cell alone; None if the cell says nothing about it.

    Infinity is a number, though none that a column may hold, so that an error calls it one.
    """
    if is_missing(cell):
        return None
    if is_infinite(cell):
        return NUMBER
    return next((kind for kind, read in _READERS.items() if read(cell) is not None), CATEGORY)


def as_plain(columns: Sequence[TableColumn]) -> list[dict[str, Any]]:
    """The columns as plain data, which :func:`from_plain` reads."""
    return [{"name": c.name, "kind": c.kind, "categories": list(c.categories), "one_hot": c.one_hot} for c in columns]


def from_plain(saved: Sequence[Mapping[str, Any]]) -> tuple[TableColumn, ...]:
    """Rebuild columns from :func:`as_plain`."""
    return tuple(TableColumn(c["name"], c["kind"], tuple(c["categories"]), c["one_hot"]) for c in saved)


def _truth(cell: Any) -> float | None:
    return _TRUTH.get(str(cell).strip().lower())


def _date(cell: Any) -> float | None:
    if not isinstance(cell, str) or not _DATE.fullmatch(cell.strip()):
        return None
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:  # such as 30 February
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / _DAY


_READERS: Mapping[str, Callable[[Any], float | None]] = {NUMBER: finite_number, TRUTH: _truth, DATE: _date}
