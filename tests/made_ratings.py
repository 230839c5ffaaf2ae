"""MovieLens in its official layouts, in miniature, and a small data set of ratings."""

from pathlib import Path
from typing import Any

import numpy as np

from metaloop.data.ratings.made_up import MadeUpRatings
from metaloop.data.ratings.table import RatingTable

SHARES = {"users": [0.2, 0.2], "items": [0.2, 0.2], "ratings": [0.15, 0.15]}
GENRES = ("unknown", "Action", "Comedy", "Drama")


def made_up(**more: Any) -> MadeUpRatings:
    """Sixty users and eighty items."""
    arguments = {"scenario": "new_users", "ids": ["item"], "hidden": 0.0, "top": 5, "shares": SHARES, **more}
    return MadeUpRatings(**{"users": 60, "items": 80, "seed": 0, **arguments})


def small_table() -> RatingTable:
    """The ratings that :func:`write_100k` and :func:`write_1m` write."""
    return made_up().table


def _years(count: int) -> list[int]:
    return [1930 + 7 * place % 70 for place in range(count)]


def write_100k(folder: Path) -> Path:
    """Write ml-100k's four files into a new folder."""
    folder.mkdir(parents=True)
    table = small_table()
    genres = "".join(f"{genre}|{place}\n" for place, genre in enumerate(GENRES))
    (folder / "u.genre").write_text(genres + "\n", encoding="latin-1")
    users = [
        f"{place}|{17 + place % 50}|{'MF'[place % 2]}|{('writer', 'student')[place % 2]}|{55105 + 700 * place}"
        for place in range(1, 61)
    ]
    (folder / "u.user").write_text("\n".join(users) + "\n", encoding="latin-1")
    films = []
    for place, year in enumerate(_years(80), 1):
        flags = "|".join(str(int((place >> bit) % 2)) for bit in range(len(GENRES)))
        films.append(f"{place}|Amélie {place} ({year})|01-Jan-{year}||http://us.imdb.com/M/{place}|{flags}")
    films[3] = films[3].replace(films[3].split("|")[2], "")  # a film without a date, as number 267
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="latin-1")
    rows = zip(table.user + 1, table.item + 1, table.rating.astype(int), strict=True)
    (folder / "u.data").write_text("".join(f"{user}\t{item}\t{rating}\t881250949\n" for user, item, rating in rows))
    return folder


def write_1m(folder: Path) -> Path:
    """Write ml-1m's three files into a new folder."""
    folder.mkdir(parents=True)
    table = small_table()
    ages = np.array([1, 18, 25, 35, 45, 50, 56])[np.arange(60) % 7]
    users = [f"{place}::{'MF'[place % 2]}::{age}::{place % 21}::48067-{place}" for place, age in enumerate(ages, 1)]
    (folder / "users.dat").write_text("\n".join(users) + "\n", encoding="latin-1")
    films = []
    for place, year in enumerate(_years(80), 1):
        kinds = [genre for bit, genre in enumerate(GENRES[1:]) if (place >> bit) % 2] or ["Drama"]
        films.append(f"{place}::Amélie {place} ({year})::{'|'.join(kinds)}")
    (folder / "movies.dat").write_text("\n".join(films) + "\n", encoding="latin-1")
    rows = zip(table.user + 1, table.item + 1, table.rating.astype(int), strict=True)
    (folder / "ratings.dat").write_text("".join(f"{user}::{item}::{rating}::978300760\n" for user, item, rating in rows))
    return folder
