"""Random mazes of stacked tasks, and the shortest paths in them.

Cells are numbered row by row. The walls of a maze of ``size`` x ``size`` cells are ``open`` (tasks, 4, cells): whether one can
go from a cell up, down, to the left and to the right.
"""

import torch
from torch import Tensor

SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right, as rows and columns


def steps(size: int, device: torch.device) -> Tensor:
    """How the number of a cell changes by a move to each side, (4,) int64."""
    return torch.tensor([row * size + column for row, column in SIDES], device=device)


def edges(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs of neighbouring cells, two tensors (edges,): first those above each other, then those beside each other."""
    cells = torch.arange(size * size, device=device).view(size, size)
    return (
        torch.cat([cells[:-1].flatten(), cells[:, :-1].flatten()]),
        torch.cat([cells[1:].flatten(), cells[:, 1:].flatten()]),
    )


def mazes(weights: Tensor, size: int, passages: Tensor) -> Tensor:
    """Make mazes in which each cell can be reached: minimal spanning trees (Prim 1957), and further passages.

    Args:
        weights: (tasks, edges) of the edges; random ones make a random maze.
        size: cells of a side.
        passages: (tasks, edges) bool, edges that are open whether the tree has them or not.

    Returns:
        ``open`` (tasks, 4, cells) bool.
    """
    first, second = edges(size, weights.device)
    reached = torch.zeros(len(weights), size * size, dtype=torch.bool, device=weights.device)
    reached[:, 0] = True
    tree = torch.zeros_like(passages)
    for _ in range(size * size - 1):
        leaves = reached[:, first] != reached[:, second]
        nearest = weights.masked_fill(~leaves, torch.inf).argmin(1, keepdim=True)
        tree.scatter_(1, nearest, True)
        reached.scatter_(1, first[nearest], True).scatter_(1, second[nearest], True)
    opened = tree | passages
    result = torch.zeros(len(weights), 4, size * size, dtype=torch.bool, device=weights.device)
    vertical = size * (size - 1)
    for side, cells, which in ((0, second, 0), (1, first, 0), (2, second, 1), (3, first, 1)):
        part = slice(0, vertical) if which == 0 else slice(vertical, None)
        result[:, side, cells[part]] = opened[:, part]
    return result


def distances(opened: Tensor, goal: Tensor, size: int) -> Tensor:
    """Lengths of the shortest paths from each cell to the goals (tasks,), int64 (tasks, cells).

    Every cell must be reachable. A path is at most as long as there are cells.
    """
    cells = size * size
    after = (torch.arange(cells, device=goal.device) + steps(size, goal.device)[:, None]).clamp(0, cells - 1)
    length = torch.full((len(goal), cells), cells, device=goal.device).scatter(1, goal[:, None], 0)
    for _ in range(cells - 1):
        through = torch.where(opened, length[:, after] + 1, cells).amin(1)
        length = torch.minimum(length, through)
    return length
