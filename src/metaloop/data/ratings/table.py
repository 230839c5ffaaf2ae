"""A table of ratings: users, items, what is known of them, and who rated what how."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metaloop.errors import UserError
from metaloop.types import Field


@dataclass(frozen=True)
class Side:
    """Users, or items: their names and their features.

    Attributes:
        names: identifier of each one, unique.
        titles: what a person calls each one.
        fields: features, in the order of the columns.
        codes: (members, columns) int64, see :class:`metaloop.types.Field`.
        values: of each field with codes, the names of the codes from 1 on; empty for flags.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    fields: tuple[Field, ...]
    codes: np.ndarray
    values: tuple[tuple[str, ...], ...]

    @cached_property
    def places(self) -> dict[str, int]:
        """Number of each name."""
        return {name: place for place, name in enumerate(self.names)}


@dataclass(frozen=True)
class RatingTable:
    """Ratings, one row each.

    Attributes:
        name: name of the data set, for messages.
        users: the users.
        items: the items.
        user: (ratings,) int64 numbers of users.
        item: (ratings,) int64 numbers of items.
        rating: (ratings,) float64.
        low: lowest possible rating.
        high: highest possible rating.
    """

    name: str
    users: Side
    items: Side
    user: np.ndarray
    item: np.ndarray
    rating: np.ndarray
    low: float
    high: float

    def __post_init__(self) -> None:
        if fault := fault_of(self):
            raise UserError(f"{self.name}: {fault}")


def fault_of(table: RatingTable) -> str | None:
    """The first fault of the ratings in words, with its row counted from 1; None if there is none."""
    where = f"ratings from {table.low:g} to {table.high:g} are possible"
    outside = ~((table.rating >= table.low) & (table.rating <= table.high))  # nan is outside
    if outside.any():
        row = int(outside.argmax())
        return (
            f"rating {row + 1} is {table.rating[row]:g}, by user {table.users.names[table.user[row]]} of item "
            f"{table.items.names[table.item[row]]}; {where}. Correct or remove it"
        )
    pairs = table.user.astype(np.int64) * len(table.items.names) + table.item
    _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = int(first[counts > 1][0])
        return (
            f"user {table.users.names[table.user[row]]} rated item {table.items.names[table.item[row]]} "
            f"{int(counts[counts > 1][0])} times, first in rating {row + 1}; keep one of them"
        )
    return None


def codes_of(values: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Codes (members,) of categories: 1 for the first of ``names`` and so on, 0 for any other value, which is unknown."""
    places = {name: place for place, name in enumerate(names, 1)}
    return np.array([places.get(value, 0) for value in values], dtype=np.int64)
