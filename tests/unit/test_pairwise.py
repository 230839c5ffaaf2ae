"""Rows that the fast suite takes from a full product."""

from itertools import combinations, product

import pytest

from pairwise import Row, covering, each_once, pairwise


def pairs(rows: list[Row]) -> set[object]:
    return {pair for row in rows for pair in combinations(enumerate(row), 2)}


@pytest.mark.parametrize(("sizes", "most"), [((8, 16, 6, 5), 136), ((4, 3), 12), ((2, 2, 2), 4), ((5,), 0)])
def test_all_pairs_stand_in_few_rows(sizes: tuple[int, ...], most: int) -> None:
    rows = list(product(*map(range, sizes)))
    chosen = pairwise(rows)
    assert set(chosen) <= set(rows)
    assert pairs(chosen) == pairs(rows)
    assert len(set(chosen)) == len(chosen) <= most
    assert pairwise(rows) == chosen


def test_pairs_that_no_row_has_are_not_asked_for() -> None:
    rows = [row for row in product("ab", "cd", "ef") if row[:2] != ("a", "c")]
    chosen = pairwise(rows)
    assert pairs(chosen) == pairs(rows)
    assert not [row for row in chosen if row[:2] == ("a", "c")]


def test_each_member_of_the_first_axis_stands_once_and_the_others_in_turn() -> None:
    chosen = each_once(list(product("abcde", [1, 2], "xy")))
    assert [row[0] for row in chosen] == list("abcde")
    assert [row[1:] for row in chosen] == [(1, "x"), (2, "y"), (2, "x"), (2, "y"), (1, "x")]


def test_members_that_no_row_holds_come_first() -> None:
    chosen = each_once(list(product("abc", range(3), "xyz")))
    assert chosen == [("a", 0, "x"), ("b", 1, "y"), ("c", 2, "z")]


def test_no_member_of_a_longer_axis_is_lost() -> None:
    chosen = each_once([row for row in product("ab", range(5)) if row != ("a", 3)])
    assert {row[1] for row in chosen} == set(range(5))
    assert len(chosen) == 5


def test_the_rest_of_the_product_is_slow() -> None:
    mark = covering(("letter", "number"), "abc", [1, 2], select=each_once, allowed=lambda letter, number: letter != "c")
    cases = mark.args[1]
    assert [case.id for case in cases] == ["a-1", "a-2", "b-1", "b-2"]
    assert [case.id for case in cases if not case.marks] == ["a-1", "b-2"]
    assert [case.marks[0].name for case in cases if case.marks] == ["slow", "slow"]
