"""Made-up ratings: latent factors, features of users and items, popularity and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metaloop.data.ratings.dataset import Ratings
from metaloop.data.ratings.table import RatingTable, Side
from metaloop.errors import UserError
from metaloop.types import Field

_LOW, _HIGH = 1.0, 5.0
_GENRES = ("action", "comedy", "drama", "family", "horror", "music", "romance", "science", "thriller", "war")
_DECADES = ("1950s", "1960s", "1970s", "1980s", "1990s", "2000s")
_USER_FIELDS = {
    "age": ("under 18", "18-24", "25-34", "35-44", "45-54", "55 and older"),
    "gender": ("F", "M"),
    "occupation": ("artist", "doctor", "engineer", "farmer", "lawyer", "retired", "student", "teacher"),
}
_FACTORS = 8
# Standard deviations, in stars: of users, of items, of what a user likes in particular, of chance. Their squares are about the
# parts of the variance of MovieLens' ratings, 1.27 in all, of which the best models leave 0.8 unexplained.
_USERS, _ITEMS, _TASTE, _NOISE = 0.45, 0.5, 0.4, 0.85
_MEAN = 3.55
# How much of the variance of biases and factors the features tell; the rest is each user's or item's own.
_TOLD_OF_USERS, _TOLD_OF_ITEMS = 0.15, 0.4


class MadeUpRatings(Ratings):
    """Ratings from 1 to 5 that are drawn from a random model, the same for the same arguments.

    The expected rating is a mean, a bias of the user, a bias of the item, and the product of eight latent factors of each.
    Features tell a part of biases and factors (15 % of the variance of users', 40 % of items'); the rest can only be learned
    from ratings. Normal noise has most of the variance. Ratings are rounded, and cut to the scale. Popularity of items is
    log-normal, popular items are somewhat better, and users rate what they like somewhat more often. Users have 15 ratings or
    more, half of them more than 45.

    Args:
        users: number of users.
        items: number of items.
        seed: seed of the model and of the ratings.
        scenario, ids, hidden, top, shares, division, evidence: see :class:`metaloop.data.ratings.dataset.Ratings`.
    """

    scale = (_LOW, _HIGH)

    def __init__(
        self,
        users: int,
        items: int,
        seed: int,
        scenario: str,
        ids: Sequence[str],
        hidden: float,
        top: int,
        shares: Mapping[str, Sequence[float]],
        division: int = 0,
        evidence: str | None = None,
    ) -> None:
        if users < 20 or items < 40:
            raise UserError(f"dataset.users={users}, dataset.items={items}: at least 20 users and 40 items")
        super().__init__(scenario, ids, hidden, top, shares, division, evidence)
        self.users, self.items, self.seed = users, items, seed

    def read(self) -> RatingTable:
        """See :meth:`Ratings.read`."""
        return self._made()[0]

    def truth(self) -> "Truth":
        """The random model that the ratings were drawn from, for the best possible predictions."""
        return self._made()[1]

    def _made(self) -> tuple[RatingTable, "Truth"]:
        random = np.random.default_rng([self.seed, 21])
        users, items = _made_users(random, self.users), _made_items(random, self.items)
        told, of_users = _effects(random, _one_hot(users), _TOLD_OF_USERS)
        _, of_items = _effects(random, _one_hot(items), _TOLD_OF_ITEMS)
        taste = _TASTE * (of_users[:, 1:] @ of_items[:, 1:].T) / np.sqrt(_FACTORS)
        fame = 0.3 * of_items[:, 0] + np.sqrt(1 - 0.3**2) * random.normal(size=self.items)
        user, item = _who_rates_what(random, fame, taste)
        expected = _MEAN + _USERS * of_users[user, 0] + _ITEMS * of_items[item, 0] + taste[user, item]
        rating = np.clip(np.rint(expected + _NOISE * random.normal(size=len(user))), _LOW, _HIGH)
        bias = np.full((self.items, 1), _USERS)
        weights = np.concatenate([bias, _TASTE / np.sqrt(_FACTORS) * of_items[:, 1:]], 1)
        truth = Truth(_MEAN + _ITEMS * of_items[:, 0], weights, told, 1 - _TOLD_OF_USERS, _NOISE**2)
        return RatingTable("made-up ratings", users, items, user, item, rating, _LOW, _HIGH), truth


@dataclass(frozen=True)
class Truth:
    """The random model: user u's rating of item i is normal around ``offset[i] + weights[i] @ w``, then rounded and cut.

    The user's own vector w is normal around ``told[u]``, what the user's features tell, with ``variance`` in each entry.

    Attributes:
        offset: (items,).
        weights: (items, 1 + factors).
        told: (users, 1 + factors).
        variance: of each entry of w.
        noise: variance of a rating.
    """

    offset: np.ndarray
    weights: np.ndarray
    told: np.ndarray
    variance: float
    noise: float

    def expected(self, user: int, rated: np.ndarray, ratings: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Posterior means (asked,) of a user's ratings of the items ``asked``, given ``ratings`` of the items ``rated``.

        Rounding counts as uniform noise (variance 1/12), and cutting and the choice of items are left out, so that this is
        the best linear prediction.
        """
        a, prior = self.weights[rated], self.told[user]
        noise = self.noise + 1 / 12
        precision = a.T @ a / noise + np.eye(a.shape[1]) / self.variance
        w = prior + np.linalg.solve(precision, a.T @ (ratings - self.offset[rated] - a @ prior) / noise)
        means: np.ndarray = self.offset[asked] + self.weights[asked] @ w
        return means


def _made_users(random: np.random.Generator, count: int) -> Side:
    names = tuple(f"user {number}" for number in range(1, count + 1))
    fields = tuple(Field(name, len(values) + 1, True) for name, values in _USER_FIELDS.items())
    codes = np.stack([1 + random.choice(len(v), size=count, p=_uneven(random, len(v))) for v in _USER_FIELDS.values()], 1)
    return Side(names, names, fields, codes, tuple(_USER_FIELDS.values()))


def _made_items(random: np.random.Generator, count: int) -> Side:
    names = tuple(f"item {number}" for number in range(1, count + 1))
    decade = 1 + random.choice(len(_DECADES), size=count, p=_uneven(random, len(_DECADES)))
    genres = random.random((count, len(_GENRES))) < 0.15
    genres[np.arange(count), random.integers(len(_GENRES), size=count)] = True  # each has one at least
    fields = (Field("decade", len(_DECADES) + 1), Field("genres", len(_GENRES), labels=True))
    return Side(names, names, fields, np.column_stack([decade, genres]).astype(np.int64), (_DECADES, ()))


def _uneven(random: np.random.Generator, count: int) -> np.ndarray:
    return random.dirichlet(np.full(count, 4.0))


def _one_hot(side: Side) -> np.ndarray:
    """Features as numbers (members, n): ones for the code and the labels that a member has."""
    parts, column = [], 0
    for field in side.fields:
        codes = side.codes[:, column : column + field.columns]
        parts.append(codes if field.labels else np.eye(field.size)[codes[:, 0]])
        column += field.columns
    return np.concatenate(parts, 1)


def _effects(random: np.random.Generator, features: np.ndarray, told: float) -> tuple[np.ndarray, np.ndarray]:
    """Biases and factors (members, 1 + factors) with variance 1; first the part that features tell, the share ``told``."""
    linear = features @ random.normal(size=(features.shape[1], 1 + _FACTORS))
    linear = (linear - linear.mean(0)) / linear.std(0)
    known = np.sqrt(told) * linear
    return known, known + np.sqrt(1 - told) * random.normal(size=linear.shape)


def _who_rates_what(random: np.random.Generator, fame: np.ndarray, taste: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users and items (ratings,) of all ratings: items drawn without replacement by popularity and liking (Gumbel's way)."""
    users, items = taste.shape
    count = np.clip(np.exp(np.log(45) + 0.7 * random.normal(size=users)), 15, items // 2).astype(int)
    keys = 1.2 * fame + taste / _TASTE * 0.5 + random.gumbel(size=taste.shape)
    chosen = [np.argsort(-keys[user])[: count[user]] for user in range(users)]
    return np.repeat(np.arange(users), count), np.concatenate(chosen).astype(np.int64)
