"""Columns of a data frame in memory as numbers, encoded as the columns of a user's file are. pandas is not imported."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metaloop.data.user.encoding import CATEGORY, NUMBER, TableColumn, category_of, kind_of

_FEW = 20  # different texts that are categories in a table of any length


def is_frame(x: Any) -> bool:
    """Whether ``x`` is a data frame with columns that are no numbers."""
    return hasattr(x, "columns") and hasattr(x, "dtypes") and any(kind.kind not in "iuf" for kind in _kinds(x))


def encoding_of(frame: Any) -> tuple[TableColumn, ...]:
    """How the columns of a data frame become numbers, one each: numbers, truth values, days since 1970, places of categories.

    Raises:
        ValueError: a column of texts holds more than 20 different ones in more than half of the rows.
    """
    return tuple(_column(str(name), _cells(frame.iloc[:, place])) for place, name in enumerate(frame.columns))


def encoded(frame: Any, encoding: Sequence[TableColumn]) -> Any:
    """A data frame of floats with the columns of ``frame``; categories that the encoding lacks count as missing.

    Raises:
        ValueError: a cell is of another kind than its column.
    """
    if len(encoding) != frame.shape[1]:
        return frame  # the number of columns is refused elsewhere, by name
    numbers = np.empty(frame.shape, dtype=np.float64)
    for place, column in enumerate(encoding):
        for row, cell in enumerate(_cells(frame.iloc[:, place])):
            value = column.numbers(cell)
            if value is None:
                raise ValueError(f"column {column.name!r}, row {row}: {cell!r} is no {column.kind}, as the others are")
            numbers[row, place] = value[0]
    return type(frame)(numbers, columns=frame.columns, index=frame.index)


def _kinds(frame: Any) -> list[Any]:
    return [getattr(dtype, "numpy_dtype", dtype) if hasattr(dtype, "kind") else np.dtype(object) for dtype in frame.dtypes]


def _cells(series: Any) -> list[Any]:
    """The cells of a column as texts, numbers and truth values; None for a missing one."""
    missing = series.isna().tolist()
    return [
        None if lacks else (cell if isinstance(cell, bool | int | float) else str(cell))
        for cell, lacks in zip(series.astype(object).tolist(), missing, strict=True)
    ]


def _column(name: str, cells: Sequence[Any]) -> TableColumn:
    kinds = {kind for cell in cells if (kind := kind_of(cell)) is not None}
    if not kinds:
        return TableColumn(name, NUMBER, one_hot=False)
    if kinds != {CATEGORY} and len(kinds) == 1:
        return TableColumn(name, kinds.pop(), one_hot=False)
    categories = tuple(sorted({each for cell in cells if (each := category_of(cell)) is not None}))
    if len(categories) > max(_FEW, len(cells) // 2):
        raise ValueError(
            f"column {name!r} holds {len(categories):,} different texts in {len(cells):,} rows, which are no categories; drop "
            f"the column"
        )
    return replace(TableColumn(name, CATEGORY, categories), one_hot=False)
