"""A user's table: columns of numbers, and a column of classes or targets."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.data.user.numerals import EXPECTED, finite_number, is_missing
from metaloop.data.user.row_files import RowFile, read_rows
from metaloop.data.user.tasks import Columns, UserRows, example_hashes
from metaloop.errors import UserError


def read_user_table(path: Path, columns: Columns, width: int, *, labelled: bool) -> UserRows:
    """Read a table as (rows, width) float64, with nan for missing values.

    All columns except the label's are features. Columns beyond them are nan.

    Raises:
        UserError: the file is missing or broken, a value is not a number, or there are more features than ``width``.
    """
    table = read_rows(path)
    if labelled:
        table.check_column(columns.label, "label")
    features = tuple(name for name in table.columns if name != columns.label)
    if not features:
        raise table.file.problem(f"no features: {columns.label!r} is the only column")
    if len(features) > width:
        raise UserError(
            f"{path} has {len(features)} features, but the widest table of the run has {width}: leave some out, or train with "
            f"a wider table in dataset.tables"
        )
    values = np.full((len(table.rows), width), np.nan)
    for index, (line, row) in enumerate(table.rows):
        values[index, : len(features)] = [_number(table, row, line, name) for name in features]
    labels = tuple(table.label(row, line, columns.label) for line, row in table.rows)
    captions = tuple(f"line {line}" for line, _ in table.rows)
    stored = torch.from_numpy(values)
    return UserRows(path, table.digest, stored, labels, captions, example_hashes(stored), features)


def _number(table: RowFile, row: Mapping[str, Any], line: int, name: str) -> float:
    value = row.get(name)
    number = float("nan") if is_missing(value) else finite_number(value)
    if number is None:
        raise table.file.problem(f"column {name!r} must hold {EXPECTED}, or nothing, not {str(value)[:40]!r}", line)
    return number


def reorder_columns(features: tuple[str, ...], rows: UserRows) -> UserRows:
    """Bring the columns of a query table into the order of the support set's.

    Raises:
        UserError: the columns differ from the support set's.
    """
    if rows.features == features:
        return rows
    missing = [name for name in features if name not in rows.features]
    surplus = [name for name in rows.features if name not in features]
    if missing or surplus:
        parts = [
            f"{verb} {', '.join(map(repr, names))}" for verb, names in (("lacks", missing), ("also has", surplus)) if names
        ]
        raise UserError(f"{rows.path} {' and '.join(parts)}: its columns must be those of the support set")
    assert isinstance(rows.inputs, Tensor)
    order = [rows.features.index(name) for name in features]
    unused = range(len(features), rows.inputs.shape[1])
    inputs = rows.inputs[:, [*order, *unused]]
    return replace(rows, inputs=inputs, hashes=example_hashes(inputs), features=features)
