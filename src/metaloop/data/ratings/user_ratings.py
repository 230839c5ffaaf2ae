"""A user's own ratings, and lists of items, from files."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.data.ratings.table import RatingTable, Side
from metaloop.data.user.numerals import EXPECTED, finite_number
from metaloop.data.user.row_files import RowFile, read_rows
from metaloop.data.user.tasks import Columns, UserRows
from metaloop.system.suggestions import did_you_mean

log = logging.getLogger(__name__)

ITEM, RATING = "item", "rating"  # names of columns


def read_user_ratings(
    path: Path, columns: Columns, table: RatingTable, *, labelled: bool
) -> tuple[UserRows, np.ndarray, np.ndarray]:
    """Read one user's ratings, or the items to predict. Rows of ratings without one are left out.

    The file has the column ``item`` (an item's identifier or title) and, for ratings, the column ``rating`` or the one that
    ``columns.label`` names. Further columns with the names of the data set's features of users are what is known of the user.

    Args:
        path: CSV, TSV, JSON or JSON lines file.
        columns: name of the column of ratings.
        table: the data set.
        labelled: whether ratings are required.

    Returns:
        The rows, whose inputs are still to be made; the number of each row's item; and the user's feature codes.

    Raises:
        UserError: an item is unknown or given twice, a rating is not a number or beyond the scale, there is no rating, or a
            feature of the user is unknown or differs between rows.
    """
    file = read_rows(path)
    rated = columns.label if columns.label in file.columns else RATING
    if labelled:
        file.check_column(rated, "label")
        file = _with_ratings(file, rated)
    item = _items(file, table.items)
    labels = tuple(file.label(row, line, rated) for line, row in file.rows)
    _check_ratings(file, labels, table)
    titles, hashes = (tuple(each(place) for place in item) for each in (table.items.titles.__getitem__, _hash_in(table)))
    rows = UserRows(path, file.digest, torch.empty(len(item), 0), labels, titles, hashes)
    return rows, item, _user_codes(file, table.users)


def _check_ratings(file: RowFile, labels: Sequence[str | None], table: RatingTable) -> None:
    """Raise a UserError if a rating is no number, or beyond the scale."""
    for (line, _), label in zip(file.rows, labels, strict=True):
        value = finite_number(label)
        if label is not None and value is None:
            raise file.file.problem(f"the rating must be {EXPECTED}, not {label!r}", line)
        if value is not None and not table.low <= value <= table.high:
            limits = f"{table.low:g} to {table.high:g}"
            raise file.file.problem(f"the rating {label} is not from {limits}, as those of the run", line)


def _with_ratings(file: RowFile, rated: str) -> RowFile:
    """The rows with a rating."""
    rows = tuple((line, row) for line, row in file.rows if _text(row, rated))
    if not rows:
        raise file.file.problem(f"no rating in column {rated!r}")
    if len(rows) < len(file.rows):
        log.info(
            "%s: %s of %s rows have no rating and are left out", file.file.path, len(file.rows) - len(rows), len(file.rows)
        )
    return replace(file, rows=rows)


def item_hash(name: str) -> str:
    """Hash by which a user's items are recognised."""
    return hashlib.sha256(name.encode()).hexdigest()


def read_order(path: str, table: RatingTable) -> Tensor:
    """Read a list of items; return the place (items,) of each item of the data set in it, and its length for all others.

    Raises:
        UserError: the file is missing or broken, or an item is unknown or given twice.
    """
    item = _items(read_rows(Path(path).expanduser()), table.items)
    order = torch.full((len(table.items.names),), float(len(item)), dtype=torch.float64)
    order[torch.from_numpy(item)] = torch.arange(len(item), dtype=torch.float64)
    return order


def _hash_in(table: RatingTable) -> Any:
    return lambda place: item_hash(table.items.names[place])


def _items(file: RowFile, items: Side) -> np.ndarray:
    """Number of the item in each row."""
    if ITEM not in file.columns:
        raise file.file.problem(f"no column {ITEM!r}, the identifier or title of an item; it has {', '.join(file.columns)}")
    unique = {title for title, count in Counter(items.titles).items() if count == 1}
    titles = {title: place for place, title in enumerate(items.titles) if title in unique}
    found: dict[int, int] = {}
    for line, row in file.rows:
        given = "" if row.get(ITEM) is None else str(row[ITEM]).strip()
        place = items.places.get(given, titles.get(given))
        if place is None:
            several = given in items.titles
            hint = "several items have this title; give the identifier" if several else did_you_mean(given, titles)
            raise file.file.problem(f"unknown item {given!r}; {hint}".rstrip("; "), line)
        if place in found:
            raise file.file.problem(f"item {given!r} is in line {found[place]}, too; keep one of them", line)
        found[place] = line
    return np.fromiter(found, dtype=np.int64)


def _user_codes(file: RowFile, users: Side) -> np.ndarray:
    """Feature codes (columns,) of the one user of the file; 0 for what it does not say."""
    codes = []
    for field, values in zip(users.fields, users.values, strict=True):
        given = {_text(row, field.name): line for line, row in reversed(file.rows)}
        if len(given) > 1:
            raise file.file.problem(
                f"column {field.name!r} has several values, {', '.join(map(repr, sorted(given)))}, but the "
                f"file has the ratings of one user"
            )
        value, line = next(iter(given.items()))
        if value and value not in values:
            raise file.file.problem(f"{field.name} {value!r} must be one of {', '.join(values)}, or empty", line)
        codes.append(values.index(value) + 1 if value else 0)
    return np.array(codes, dtype=np.int64)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()
