"""Readers of the tables and arrays that a run writes beside its record."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.errors import UserError

Array = np.ndarray[Any, np.dtype[Any]]
Columns = Mapping[str, tuple[Array, Array]]


def read_episodes(path: Path) -> dict[int, float]:
    """Read the score of every meta-test episode by its number, from episodes.csv.

    Raises:
        UserError: the file is missing or broken, or contains an episode twice.
    """
    header, rows = _read_csv(path, "index")
    try:
        column = header.index("score")
        episodes = {int(row[0]): float(row[column]) for row in rows}
    except ValueError as error:
        raise UserError(f"{path}: {error}; needs whole numbers in 'index' and numbers in 'score'") from error
    if len(episodes) != len(rows):
        raise UserError(f"{path}: {len(rows) - len(episodes)} episode numbers appear twice")
    return episodes


def read_metrics(path: Path) -> Columns:
    """Read the columns of metrics.csv: name to (outer steps, values), without empty cells.

    Raises:
        UserError: the file is missing or broken.
    """
    header, rows = _read_csv(path, "step")
    columns: dict[str, tuple[Array, Array]] = {}
    cells = list(zip(*rows, strict=True)) or [()]
    steps = _numbers(cells[0], header[0], path)
    for name, column in zip(header[1:], cells[1:], strict=False):
        filled = [number for number, cell in enumerate(column) if cell]
        if filled:
            columns[name] = (steps[filled], _numbers([column[number] for number in filled], name, path))
    return columns


def read_samples(directory: Path) -> dict[str, Array] | None:
    """Read the arrays of samples.npz; None if the run wrote none.

    Raises:
        UserError: the file is broken. Pickled objects are never loaded.
    """
    path = directory / "samples.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged file raises zip, header or value errors of many kinds
        raise UserError(f"{path}: no readable samples ({error}); delete it, or evaluate the run again") from error


def _read_csv(path: Path, first: str) -> tuple[list[str], list[list[str]]]:
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise OSError("not a plain file")
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no readable table ({error})") from error
    header, rows = (table[0], table[1:]) if table else ([], [])
    if not header or header[0] != first or any(len(row) != len(header) for row in rows):
        raise UserError(f"{path}: not a whole table whose first column is {first!r}; was the run cut off?")
    return header, rows


def _numbers(cells: Sequence[str], name: str, path: Path) -> Array:
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise UserError(f"{path}: column {name!r}: {error}") from error
