"""MovieLens in its official layouts, written in miniature."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_ratings import GENRES, SHARES, small_table, write_1m, write_100k
from metaloop.data.ratings.movielens import MovieLens
from metaloop.errors import UserError
from metaloop.testing import check_dataset
from metaloop.types import EpisodeSpec

WRITERS = {"ml-100k": write_100k, "ml-1m": write_1m}
RATINGS = {"ml-100k": "u.data", "ml-1m": "ratings.dat"}


def opened(edition: str, folder: Path, **more: Any) -> MovieLens:
    arguments = {"scenario": "new_users", "ids": ["item"], "hidden": 0.0, "top": 5, "shares": SHARES, **more}
    return MovieLens(edition, str(folder), **arguments)


@pytest.mark.parametrize("edition", WRITERS)
def test_the_official_layout_is_read(edition: str, tmp_path: Path) -> None:
    dataset = opened(edition, WRITERS[edition](tmp_path / edition))
    table, made = dataset.table, small_table()
    for name in ("user", "item", "rating"):
        np.testing.assert_array_equal(getattr(table, name), getattr(made, name))
    assert table.items.titles[0] == "Amélie 1 (1930)"
    assert table.items.names[:2] == table.users.names[:2] == ("1", "2")
    ages, genders = table.users.codes[:, 0], table.users.codes[:, 1]
    assert genders.tolist() == [1 if place % 2 else 2 for place in range(1, 61)]  # "MF"[place % 2]; F comes first
    expected = [sum(17 + place % 50 >= first for first in (0, 18, 25, 35, 45, 50, 56)) for place in range(1, 61)]
    assert ages.tolist() == (expected if edition == "ml-100k" else [1 + place % 7 for place in range(60)])
    decades = table.items.codes[:, 0]
    assert decades[0] == 3  # the 1930s, after "unknown", the 1910s and the 1920s
    assert (decades[3] == 0) is np.bool_(edition == "ml-100k")
    genres = table.items.codes[:, 1:]
    names = GENRES if edition == "ml-100k" else tuple(sorted(GENRES[1:]))
    bits = {genre: place for place, genre in enumerate(GENRES if edition == "ml-100k" else GENRES[1:])}
    for place in (1, 5, 6):
        assert genres[place - 1].tolist() == [(place >> bits[genre]) % 2 for genre in names]
    check_dataset(dataset, EpisodeSpec(1, 3, 6))


@pytest.mark.parametrize("edition", WRITERS)
def test_a_missing_copy_is_named_with_its_source_and_licence(edition: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"no such file.*{edition}\.zip from https://grouplens.*dataset\.path.*licence: .*"):
        opened(edition, tmp_path / "nowhere").split("train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("9999", "1", "3", "0"), "names user '9999'"),
        (("1", "9999", "3", "0"), "names item '9999'"),
        (("60", "80", "7", "0"), "is 7, by user 60 of item 80; ratings from 1 to 5 are possible"),
        (("60", "80", "nan", "0"), "is nan, by user 60"),
        (("60", "80", "good", "0"), "a rating is no number"),
        (("60", "80", "3"), "has 3 cells, not 4"),
        (None, "rated item .* 2 times"),
    ],
)
@pytest.mark.parametrize("edition", WRITERS)
def test_bad_ratings_are_refused_with_their_place(
    edition: str, row: tuple[str, ...] | None, message: str, tmp_path: Path
) -> None:
    folder = WRITERS[edition](tmp_path / edition)
    path = folder / RATINGS[edition]
    text = path.read_text()
    separator = "\t" if edition == "ml-100k" else "::"
    path.write_text(text + (text.splitlines()[4] if row is None else separator.join(row)) + "\n")
    with pytest.raises(UserError, match=message):
        opened(edition, folder).split("train")


def test_an_unknown_edition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.edition='ml-20m' must be one of ml-100k, ml-1m"):
        opened("ml-20m", tmp_path)
