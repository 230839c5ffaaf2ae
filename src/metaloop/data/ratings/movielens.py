"""MovieLens: ratings of films, from a user's own copy of ml-100k or ml-1m (Harper and Konstan 2015)."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from metaloop.data.files.archives import Origin
from metaloop.data.ratings.dataset import Ratings
from metaloop.data.ratings.table import RatingTable, Side, codes_of
from metaloop.errors import UserError
from metaloop.types import Field

_LOW, _HIGH = 1.0, 5.0
_AGES = ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56 and older")  # as in ml-1m
_FROM = (0, 18, 25, 35, 45, 50, 56)  # the youngest of each
_GENDERS = ("F", "M")
_AREAS = tuple("0123456789")  # first digit of a zip code
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_DECADES = tuple(f"{decade}s" for decade in range(1910, 2010, 10))
_OCCUPATIONS = (  # of ml-1m by number, from its README
    "other", "educator", "artist", "clerical", "college student", "customer service", "doctor", "executive", "farmer",
    "homemaker", "K-12 student", "lawyer", "programmer", "retired", "sales", "scientist", "self-employed", "technician",
    "tradesman", "unemployed", "writer",
)  # fmt: skip
FILES = {"ml-100k": ("u.data", "u.item", "u.user", "u.genre"), "ml-1m": ("ratings.dat", "movies.dat", "users.dat")}


class MovieLens(Ratings):
    """Ratings of films by users of MovieLens, in whole stars from 1 to 5.

    Features of users: age group, gender, occupation, and first digit of the zip code. Features of films: decade of release and
    genres. Lee et al. 2019 take the whole zip code, and add directors, actors and the film's rating from elsewhere.

    Args:
        edition: "ml-100k" or "ml-1m".
        path: folder of the unpacked archive.
        scenario, ids, hidden, top, shares, division, evidence: see :class:`metaloop.data.ratings.dataset.Ratings`.
    """

    scale = (_LOW, _HIGH)

    def __init__(
        self,
        edition: str,
        path: str,
        scenario: str,
        ids: Sequence[str],
        hidden: float,
        top: int,
        shares: Mapping[str, Sequence[float]],
        division: int = 0,
        evidence: str | None = None,
    ) -> None:
        if edition not in FILES:
            raise UserError(f"dataset.edition={edition!r} must be one of {', '.join(FILES)}")
        super().__init__(scenario, ids, hidden, top, shares, division, evidence)
        self.edition, self.path = edition, Path(path).expanduser()

    def read(self) -> RatingTable:
        """See :meth:`Ratings.read`."""
        origin = Origin(
            self.edition,
            "of GroupLens: research use, no redistribution, no commercial use without permission",
            f"Download {self.edition}.zip from https://grouplens.org/datasets/movielens/, unpack it, and set dataset.path to "
            f"its folder with {', '.join(FILES[self.edition])}",
        )
        readers: dict[str, Callable[[Path, Origin], RatingTable]] = {"ml-100k": _read_100k, "ml-1m": _read_1m}
        return readers[self.edition](self.path, origin)


def _read_100k(folder: Path, origin: Origin) -> RatingTable:
    genres = tuple(row[0] for row in _rows(folder / "u.genre", "|", 2, origin))
    users = _rows(folder / "u.user", "|", 5, origin)
    films = _rows(folder / "u.item", "|", 5 + len(genres), origin)
    flags = np.array([[flag == "1" for flag in row[5:]] for row in films])
    jobs = tuple(sorted({row[3] for row in users}))
    ages = [_age(row[1], folder / "u.user", origin) for row in users]
    genders, work, areas = ([row[place] for row in users] for place in (2, 3, 4))
    user_side = _users([row[0] for row in users], ages, genders, work, areas, jobs)
    item_side = _films([row[0] for row in films], [row[1] for row in films], [row[2][-4:] for row in films], flags, genres)
    return _table("ml-100k", folder / "u.data", "\t", user_side, item_side, origin)


def _read_1m(folder: Path, origin: Origin) -> RatingTable:
    users = _rows(folder / "users.dat", "::", 5, origin)
    films = _rows(folder / "movies.dat", "::", 3, origin)
    genres = tuple(sorted({genre for row in films for genre in row[2].split("|")}))
    flags = np.array([[genre in row[2].split("|") for genre in genres] for row in films])
    ages = [_age(row[2], folder / "users.dat", origin) for row in users]
    jobs = [_OCCUPATIONS[int(row[3])] if row[3].isdecimal() and int(row[3]) < len(_OCCUPATIONS) else "" for row in users]
    user_side = _users(
        [row[0] for row in users], ages, [row[1] for row in users], jobs, [row[4] for row in users], _OCCUPATIONS
    )
    years = [match[1] if (match := _YEAR.search(row[1])) else "" for row in films]
    item_side = _films([row[0] for row in films], [row[1] for row in films], years, flags, genres)
    return _table("ml-1m", folder / "ratings.dat", "::", user_side, item_side, origin)


def _rows(path: Path, separator: str, cells: int, origin: Origin) -> list[list[str]]:
    """The rows of a file in Latin-1, blank lines left out."""
    if not path.is_file():
        raise origin.problem(path, "no such file")
    rows = []
    for number, line in enumerate(path.read_text(encoding="latin-1").split("\n"), 1):
        row = line.rstrip("\r").split(separator)
        if not line.strip():
            continue
        if len(row) != cells:
            raise origin.problem(path, f"line {number} has {len(row)} cells, not {cells} with {separator!r} between")
        rows.append(row)
    if not rows:
        raise origin.problem(path, "no rows")
    return rows


def _age(text: str, path: Path, origin: Origin) -> str:
    if not text.isdecimal():
        raise origin.problem(path, f"the age {text!r} is no number")
    return _AGES[sum(int(text) >= first for first in _FROM) - 1]


def _users(
    names: Sequence[str],
    ages: Sequence[str],
    genders: Sequence[str],
    jobs: Sequence[str],
    areas: Sequence[str],
    occupations: tuple[str, ...],
) -> Side:
    values = {"age": _AGES, "gender": _GENDERS, "occupation": occupations, "area": _AREAS}
    given = (ages, genders, jobs, [area[:1] for area in areas])
    codes = np.stack([codes_of(each, known) for each, known in zip(given, values.values(), strict=True)], 1)
    fields = tuple(Field(name, len(known) + 1, True) for name, known in values.items())
    return Side(tuple(names), tuple(names), fields, codes, tuple(values.values()))


def _films(
    names: Sequence[str], titles: Sequence[str], years: Sequence[str], flags: np.ndarray, genres: tuple[str, ...]
) -> Side:
    decade = codes_of([f"{year[:3]}0s" for year in years], _DECADES)
    fields = (Field("decade", len(_DECADES) + 1), Field("genres", len(genres), labels=True))
    codes = np.column_stack([decade, flags]).astype(np.int64)
    return Side(tuple(names), tuple(titles), fields, codes, (_DECADES, ()))


def _table(name: str, path: Path, separator: str, users: Side, items: Side, origin: Origin) -> RatingTable:
    rows = _rows(path, separator, 4, origin)
    places: list[list[int]] = [[], []]
    for number, row in enumerate(rows, 1):
        for cell, side, kind, found in zip(row, (users, items), ("user", "item"), places, strict=False):
            if cell not in side.places:
                raise origin.problem(path, f"line {number} names {kind} {cell!r}, whom the other files do not have")
            found.append(side.places[cell])
    try:
        rating = np.array([float(row[2]) for row in rows])
    except ValueError as error:
        raise origin.problem(path, f"a rating is no number ({error})") from error
    user, item = (np.array(each, dtype=np.int64) for each in places)
    return RatingTable(f"{name} ({path})", users, items, user, item, rating, _LOW, _HIGH)
