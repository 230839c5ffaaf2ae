"""Drawings of states by symbols, one for each place: rows of text that a terminal shows and a picture colours; and maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FREE, WALL, PLAYER, GOAL, KEY, DOOR, BALL, PADDLE = ".#@*kDo="
Drawing = list[str]  # rows of symbols
Mark = tuple[str, Tensor, Tensor]  # a symbol, and the rows and columns (tasks,) where it is
Corner = tuple[float, float]


@dataclass(frozen=True)
class Map:
    """Where the players of stacked tasks are on a rectangle of the plane, whose second coordinate points up.

    Attributes:
        low: the lower left corner.
        high: the upper right corner.
        place: (tasks, 2) of the player.
        marks: (tasks, 2) of whatever else is there, by name, such as the goal.
    """

    low: Corner
    high: Corner
    place: Tensor
    marks: Mapping[str, Tensor]


def drawings(height: int, width: int, marks: Sequence[Mark]) -> list[Drawing]:
    """Draw marks onto free boards of this size; later marks hide earlier ones, and marks outside the board are left out."""
    result = []
    for task in range(len(marks[0][1])):
        board = [[FREE] * width for _ in range(height)]
        for symbol, rows, columns in marks:
            row, column = int(rows[task]), int(columns[task])
            if 0 <= row < height and 0 <= column < width:
                board[row][column] = symbol
        result.append(["".join(row) for row in board])
    return result


def on_a_map(position: Tensor, low: Corner, high: Corner, cells: int) -> tuple[Tensor, Tensor]:
    """The rows and columns (tasks,) of positions (tasks, 2) on a map of a rectangle, whose second coordinate points up.

    Args:
        position: points of the plane.
        low: the lower left corner.
        high: the upper right corner.
        cells: rows, and columns, of the map.
    """
    corner, size = torch.tensor(low, device=position.device), torch.tensor(high, device=position.device)
    column, row = ((position - corner) / (size - corner) * (cells - 1)).round().long().unbind(1)
    return cells - 1 - row, column
