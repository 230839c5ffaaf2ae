"""A user's table: feature columns, and a column of classes or targets."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from metaloop.data.user.encoding import CATEGORY, EXPECTATIONS, TableColumn, category_of, kind_of
from metaloop.data.user.row_files import RowFile, read_rows
from metaloop.data.user.tasks import Columns, UserRows, example_hashes
from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

log = logging.getLogger(__name__)

_FEW = 20  # different texts that are categories in a table of any length
_NAMED = 3  # categories that a warning names


def read_user_table(path: Path, columns: Columns, width: int | None, *, labelled: bool, one_hot: bool = True) -> UserRows:
    """Read a table as (rows, width) float64, with nan for missing values; a width of None is that of the table.

    All columns are features, except the label's and those to ignore. They are encoded as ``columns.encoding`` says, or by what
    they hold; without ``one_hot`` each category is its place in alphabetical order. Numbers beyond them are nan.

    Raises:
        UserError: the file is missing or broken, a cell is of another kind than its column, columns differ from the encoding's,
            or there are more numbers than ``width``.
    """
    table = read_rows(path)
    if labelled:
        table.check_column(columns.label, f"{columns.prefix}label")
    names = tuple(name for name in table.columns if name != columns.label and name not in columns.ignore)
    encoding = columns.encoding
    if encoding is None:
        encoding = _encoding(table, names, columns, width, one_hot)
    else:
        _check_names(path, names, encoding)
    features = tuple(name for column in encoding for name in column.features)
    values = np.full((len(table.rows), width or len(features)), np.nan)
    for index, (line, row) in enumerate(table.rows):
        numbers: list[float] = []
        for column in encoding:
            found = column.numbers(row.get(column.name))
            if found is None:
                raise _wrong_kind(table, line, column.name, column.kind, row.get(column.name), columns.prefix)
            numbers += found
        values[index, : len(features)] = numbers
    _tell_unknown(table, encoding)
    labels = tuple(table.label(row, line, columns.label) for line, row in table.rows)
    captions = tuple(f"line {line}" for line, _ in table.rows)
    stored = torch.from_numpy(values)
    return UserRows(path, table.digest, stored, labels, captions, example_hashes(stored), features, encoding=encoding)


def _encoding(
    table: RowFile, names: Sequence[str], columns: Columns, width: int | None, one_hot: bool
) -> tuple[TableColumn, ...]:
    """How the columns of a support set are encoded: by what they hold, categories one by one if the width allows it."""
    for key, chosen in (("ignore", columns.ignore), ("categories", columns.categories)):
        for unknown in (name for name in chosen if name not in table.columns):
            fault = f"{columns.prefix}{key}={unknown}: no such column; {did_you_mean(unknown, table.columns)}".rstrip("; ")
            if width is not None:
                raise table.file.problem(fault)
            log.warning("%s: %s", table.file.path, fault)  # it may be a column of another table of the run
    if not names:
        raise table.file.problem(f"no features: {columns.label!r} is the only column")
    encoding = tuple(replace(_column(table, name, columns), one_hot=one_hot) for name in names)
    if width is None:
        return encoding
    if sum(len(column.features) for column in encoding) > width and any(column.kind == CATEGORY for column in encoding):
        encoding = tuple(replace(column, one_hot=False) for column in encoding)
        log.warning(
            "%s: categories are their places in alphabetical order, since the model of the run has %s inputs for features",
            table.file.path,
            width,
        )
    if (count := sum(len(column.features) for column in encoding)) > width:
        raise UserError(
            f"{table.file.path} has {count} features, but the widest table of the run has {width}: leave some out with "
            f"ignore=, or train with a wider table in dataset.tables"
        )
    return encoding


def _column(table: RowFile, name: str, columns: Columns) -> TableColumn:
    """The kind of a column, which all of its cells must have; and its categories."""
    forced = name in columns.categories
    kind = CATEGORY if forced else None
    for line, row in () if forced else table.rows:
        found = kind_of(row.get(name))
        if kind and found and found != kind:
            raise _wrong_kind(table, line, name, kind, row.get(name), columns.prefix)
        kind = kind or found
    if kind != CATEGORY:
        return TableColumn(name, kind or TableColumn(name).kind)
    categories = sorted({each for _, row in table.rows if (each := category_of(row.get(name))) is not None})
    if not forced and len(categories) > max(_FEW, len(table.rows) // 2):
        raise table.file.problem(
            f"column {name!r} holds {len(categories):,} different texts in {len(table.rows):,} rows, which are no categories; "
            f"leave it out with {columns.prefix}ignore={name}, or set {columns.prefix}categories={name}"
        )
    return TableColumn(name, CATEGORY, tuple(categories))


def _wrong_kind(table: RowFile, line: int, name: str, kind: str, cell: object, prefix: str) -> UserError:
    return table.file.problem(
        f"column {name!r} must hold {EXPECTATIONS[kind]}, or nothing, not {str(cell)[:40]!r}; correct it, leave the column out "
        f"with {prefix}ignore={name}, or take all its values as categories with {prefix}categories={name}",
        line,
    )


def _check_names(path: Path, names: Sequence[str], encoding: Sequence[TableColumn]) -> None:
    """Raise a UserError if the columns differ from the support set's. Their order does not matter."""
    wanted = [column.name for column in encoding]
    missing = [name for name in wanted if name not in names]
    surplus = [name for name in names if name not in wanted]
    if missing or surplus:
        parts = [
            f"{verb} {', '.join(map(repr, listed))}" for verb, listed in (("lacks", missing), ("also has", surplus)) if listed
        ]
        raise UserError(
            f"{path} {' and '.join(parts)}: its columns must be those of the support set; ignore= names columns to leave out"
        )


def _tell_unknown(table: RowFile, encoding: Sequence[TableColumn]) -> None:
    """Warn of categories that the support set lacks; they are read as missing values."""
    for column in encoding:
        if column.kind == CATEGORY:
            found = (category_of(row.get(column.name)) for _, row in table.rows)
            unknown = Counter(each for each in found if each is not None and each not in column.categories)
            if unknown:
                named = ", ".join(map(repr, list(unknown)[:_NAMED])) + (", ..." if len(unknown) > _NAMED else "")
                message = "%s: %s cells of column %r hold categories that the support set lacks (%s); they count as missing"
                log.warning(message, table.file.path, unknown.total(), column.name, named)
