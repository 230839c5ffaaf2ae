"""Pairwise selection: the rows of a full product that the fast suite runs; the rest is marked ``slow``."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations, product

import pytest

Row = tuple[Hashable, ...]


def pairwise(rows: Sequence[Row]) -> list[Row]:
    """Choose few of ``rows`` such that two members of different axes that stand together in any of them still do.

    Greedy: the next row holds the first pair that is missing and, of those that do, the most missing pairs.
    """
    pairs = {row: [*combinations(enumerate(row), 2)] for row in rows}
    holders: dict[Hashable, list[Row]] = {}
    for row in rows:
        for pair in pairs[row]:
            holders.setdefault(pair, []).append(row)
    missing, chosen = dict.fromkeys(holders), []
    while missing:
        best = max(holders[next(iter(missing))], key=lambda row: sum(pair in missing for pair in pairs[row]))
        chosen.append(best)
        for pair in pairs[best]:
            missing.pop(pair, None)
    return chosen


def each_once(rows: Sequence[Row]) -> list[Row]:
    """Choose a row for each member of the first axis, going round the others' members, and one for each that is left.

    Of the rows of a member, those come first that hold the most members that no row holds yet.
    """
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    chosen: list[Row] = []
    held: set[Hashable] = set()

    def take(row: Row) -> None:
        chosen.append(row)
        held.update(enumerate(row))

    for number, group in enumerate(groups.values()):
        turn = number % len(group)
        take(max(group[turn:] + group[:turn], key=lambda row: sum(member not in held for member in enumerate(row))))
    for row in rows:
        if not held.issuperset(enumerate(row)):
            take(row)
    return chosen


def covering(
    names: Sequence[str],
    *axes: Iterable[Hashable],
    select: Callable[[Sequence[Row]], list[Row]] = pairwise,
    allowed: Callable[..., bool] = lambda *row: True,
) -> pytest.MarkDecorator:
    """Parametrize by the product of ``axes``, less the rows that are not allowed; those not selected are marked ``slow``."""
    rows = [row for row in product(*axes) if allowed(*row)]
    fast = set(select(rows))
    cases = [pytest.param(*row, marks=() if row in fast else pytest.mark.slow, id="-".join(map(str, row))) for row in rows]
    return pytest.mark.parametrize(names, cases)
