"""A user's own table: numbers in columns, and a class or a target."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.data.user.own_files import OwnFile, read_rows
from metaloop.data.user.own_tasks import Columns, OwnRows, digests
from metaloop.errors import UserError


def read_own_table(path: Path, columns: Columns, width: int, *, labelled: bool) -> OwnRows:
    """A file's rows as (rows, width) float64, nan where there is no value.

    All columns but the label's are features.

    Raises:
        UserError: the file is missing or broken, a value is no number, or there are more features than ``width``.
    """
    found = read_rows(path)
    if labelled:
        found.check_column(columns.label, "label")
    features = tuple(name for name in found.columns if name != columns.label)
    if not features:
        raise found.file.problem(f"no features: {columns.label!r} is the only column")
    if len(features) > width:
        raise UserError(
            f"{path}: {len(features)} features, and the run's widest table has {width}: leave some out, or train with a wider "
            f"table among dataset.tables"
        )
    values = np.full((len(found.rows), width), np.nan)
    for place, (line, row) in enumerate(found.rows):
        values[place, : len(features)] = [_number(found, row, line, name) for name in features]
    labels = tuple(found.label(row, line, columns.label) for line, row in found.rows)
    shown = tuple(f"line {line}" for line, _ in found.rows)
    stored = torch.from_numpy(values)
    return OwnRows(path, found.digest, stored, labels, shown, digests(stored), features)


def _number(found: OwnFile, row: Mapping[str, Any], line: int, name: str) -> float:
    value = row.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("inf")
    if abs(number) == float("inf"):
        raise found.file.problem(f"column {name!r}: a finite number is expected, not {str(value)[:40]!r}; or nothing", line)
    return number


def in_order_of(features: tuple[str, ...], rows: OwnRows) -> OwnRows:
    """The same rows with the columns of the support set, in its order.

    Raises:
        UserError: the columns are others.
    """
    if rows.features == features:
        return rows
    missing = [name for name in features if name not in rows.features]
    more = [name for name in rows.features if name not in features]
    if missing or more:
        told = [f"{what} {', '.join(map(repr, names))}" for what, names in (("lacks", missing), ("also has", more)) if names]
        raise UserError(f"{rows.path} {' and '.join(told)}: its columns must be those of the support set")
    assert isinstance(rows.inputs, Tensor)
    order = [rows.features.index(name) for name in features]
    rest = range(len(features), rows.inputs.shape[1])
    inputs = rows.inputs[:, [*order, *rest]]
    return replace(rows, inputs=inputs, same=digests(inputs), features=features)
