"""Ratings as tasks: a task is one user, with a few known ratings as support and others as queries."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.split_contents import split_contents
from metaloop.errors import UserError
from metaloop.metrics.recommendation import damped_means
from metaloop.problems.problem import Baseline
from metaloop.problems.rating import Rating
from metaloop.records.contents import SplitContents
from metaloop.types import EpisodeSpec, Examples, Field, Inputs, Tasks, highest, lowest

FEWEST = 5  # queries that a user must have: a ranking of fewer items says nothing
DAMPING = 5.0  # ratings as if of the mean, in the means of items and users; the ratio of noise to variance between them


@dataclass(frozen=True)
class Rows:
    """Ratings of one split, those of a user together.

    Attributes:
        x: (ratings, columns) int64, see :attr:`RatingTasks.fields`.
        y: (ratings,) ratings minus the middle of the scale.
        user: (ratings,) int64 numbers of users in [0, users), in order.
        item: (ratings,) int64 numbers of items in the whole data set.
        asked: (ratings,) bool, ratings that are queries only, because their user's other ratings were trained on.
    """

    x: Tensor
    y: Tensor
    user: Tensor
    item: Tensor
    asked: Tensor

    def to(self, device: torch.device | str) -> "Rows":
        """The same rows on ``device``."""
        return Rows(*(value.to(device) for value in vars(self).values()))


class RatingTasks(TaskDistribution):
    """The users of one split as tasks.

    Episode ``i`` is of one user; every round of as many episodes as there are users has each user once, in random order.
    Queries are a random part of the user's ratings, at most ``spec.queries`` and always at least five. The support set has
    ``shots`` of the others, at random or the first in ``order``; so the queries do not depend on how the support set is
    chosen. Users with too few ratings are left out.

    Targets (tasks, ratings, 1) are ratings minus the middle of the scale.

    Args:
        rows: the ratings.
        users: names of the users.
        fields: features that the columns of ``rows.x`` hold.
        problem: the problem.
        split: name of the split, for messages.
        means: (items,) damped mean rating of each item in meta-training minus the middle of the scale, for the baseline.
        hidden: share of the support and query examples whose identifiers are replaced by "unknown", in [0, 1).
        order: (items,) places of items in a list of those to rate first, smaller first; None for a random support set.
    """

    def __init__(
        self,
        rows: Rows,
        users: tuple[str, ...],
        fields: tuple[Field, ...],
        problem: Rating,
        split: str,
        means: Tensor,
        hidden: float = 0.0,
        order: Tensor | None = None,
    ) -> None:
        self.problem: Rating = problem
        self.fields, self.users = fields, users
        self.input_shape = (rows.x.shape[1],)
        self.rows, self.means, self.order = rows, means, order
        self._settings = (split, hidden)
        self._sizes = torch.bincount(rows.user, minlength=len(users))
        self._asked = torch.bincount(rows.user[rows.asked], minlength=len(users))
        self._starts = self._sizes.cumsum(0) - self._sizes

    def eligible(self, spec: EpisodeSpec) -> Tensor:
        """Numbers (users,) of the users with enough ratings for episodes of this size."""
        shown = self._sizes - self._asked
        queries = torch.where(self._asked > 0, self._asked, shown - highest(spec.shots))
        return ((shown >= highest(spec.shots)) & (queries >= FEWEST)).nonzero()[:, 0]

    def check(self, spec: EpisodeSpec) -> None:
        """Raise a UserError if there are classes, too few queries, or no user with enough ratings."""
        split = self._settings[0]
        if spec.ways != 1:
            raise UserError(f"{spec.said('ways')}: a user's ratings have no classes; take episode=rating or ways=1")
        if spec.queries < FEWEST:
            raise UserError(f"{spec.said('queries')}: at least {FEWEST}, because fewer items cannot be ranked")
        if not len(self.eligible(spec)):
            most = int(self._sizes.max()) if len(self._sizes) else 0
            raise UserError(
                f"{spec.said('shots')}: no user of the {split} split ({self.problem.scenario}) has so many ratings and "
                f"{FEWEST} more to predict; its {len(self.users)} users have at most {most}. Take fewer shots, another "
                f"dataset.scenario, or larger dataset.shares"
            )

    def outputs(self, spec: EpisodeSpec) -> int:
        """One number, the rating."""
        return 1

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`; all ratings of a user are looked at."""
        return super().elements(spec) + 8 * int(self._sizes.max())

    def users_of(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tensor:
        """Numbers (tasks,) of the users of these episodes."""
        users = self.eligible(spec)
        rounds, place = numbers // len(users), numbers % len(users)
        each, of = torch.unique(rounds, return_inverse=True)
        order = stream.uniform(each, len(users), "order of users").argsort(1)
        return users[order[of, place]]

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        chosen = self.users_of(stream, numbers, spec)
        users = self.eligible(spec)
        width = int(self._sizes[users].max())
        place = torch.arange(width, device=numbers.device)
        real = place < self._sizes[chosen][:, None]
        rows = (self._starts[chosen][:, None] + place).where(real, 0)  # (tasks, width)
        u = stream.uniform(numbers, width, "ratings")
        support, query = self._parts(u, rows, real, chosen, spec)
        kept = [self._examples(stream, numbers, rows, *part, name) for part, name in ((support, "support"), (query, "query"))]
        if spec.variable:
            shots = lowest(spec.shots) + stream.integers(numbers, 1, "shots", highest(spec.shots) - lowest(spec.shots) + 1)
            mask = torch.arange(highest(spec.shots), device=numbers.device) < shots
            kept[0] = replace(kept[0], mask=mask)
        if bool((self._queries(users, spec) == spec.queries).all()):
            kept[1] = replace(kept[1], mask=None)
        return Tasks(kept[0], kept[1], numbers)

    def _queries(self, users: Tensor, spec: EpisodeSpec) -> Tensor:
        """Number (users,) of queries of each of these users."""
        asked, shown = self._asked[users], self._sizes[users] - highest(spec.shots)
        return torch.where(asked > 0, asked, shown).clamp(max=spec.queries)

    def _parts(
        self, u: Tensor, rows: Tensor, real: Tensor, users: Tensor, spec: EpisodeSpec
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Places (tasks, shots) and (tasks, queries) of support and queries among a user's ratings, each with its mask.

        Args:
            u: (tasks, width) uniform random numbers.
            rows: (tasks, width) the user's ratings.
            real: (tasks, width) bool, which of them exist.
            users: (tasks,) numbers of users.
            spec: size of the episodes.
        """
        asked = self.rows.asked[rows] & real
        rank = (u + asked).masked_fill(~real, torch.inf).argsort(1).argsort(1)
        count = self._queries(users, spec)
        is_query = (rank >= (self._sizes[users] - count)[:, None]) & real
        first = u if self.order is None else u + self.order[self.rows.item[rows]]
        keys = [first.masked_fill(~real | is_query | asked, torch.inf), u.masked_fill(~is_query, torch.inf)]
        sizes = (highest(spec.shots), spec.queries)
        places = [_first(key, size) for key, size in zip(keys, sizes, strict=True)]
        masks = [torch.ones_like(places[0], dtype=torch.bool), torch.arange(spec.queries, device=u.device) < count[:, None]]
        return (places[0], masks[0]), (places[1], masks[1])

    def _examples(self, stream: Stream, numbers: Tensor, rows: Tensor, places: Tensor, mask: Tensor, name: str) -> Examples:
        chosen = rows.gather(1, places)
        x = self.rows.x[chosen]
        hidden = self._settings[1]
        if hidden:
            hide = stream.uniform(numbers, places.shape[1], f"hidden in {name}")[..., None] < hidden
            x = x.masked_fill(hide & self._identifiers(x.device), 0)
        return Examples(x, self.rows.y[chosen][..., None].float(), None if name == "support" else mask)

    def _identifiers(self, device: torch.device) -> Tensor:
        """Which columns (columns,) name a user or an item."""
        which = [field.name in IDENTIFIERS for field in self.fields for _ in range(field.columns)]
        return torch.tensor(which, device=device)

    def labelled(self) -> Examples:
        """See :meth:`TaskDistribution.labelled`; ``sequence`` numbers the users."""
        return Examples(self.rows.x, self.rows.y[:, None].float(), sequence=self.rows.user)

    def contents(self) -> SplitContents:
        """See :meth:`TaskDistribution.contents`; a user counts as a class, with the user's ratings."""
        return split_contents(dict(zip(self.users, self._sizes.tolist(), strict=True)), {"x": self.rows.x, "y": self.rows.y})

    def class_name(self, number: int) -> str:
        """Name of a user, who stands in the place of a class."""
        return self.users[number]

    def baseline(self) -> Baseline:
        """The item's mean rating in meta-training plus the user's mean distance from it, both damped by five ratings.

        Koren 2010, equation 2, with other damping. An item that is new has the mean of all ratings.
        """
        column = first_column(self.fields, "item")
        return Baseline("item mean and user bias", lambda support, x: self._mean_and_bias(support, x, column))

    def _mean_and_bias(self, support: Examples, x: Inputs, column: int | None) -> Tensor:
        assert isinstance(x, Tensor)
        assert isinstance(support.x, Tensor)
        known, asked = (self.means[0 * each[..., 0] if column is None else each[..., column]] for each in (support.x, x))
        errors = support.y[..., 0] - known
        real = torch.ones_like(errors) if support.mask is None else support.mask
        bias = (errors * real).sum(1) / (real.sum(1) + DAMPING)
        return (asked + bias[:, None])[..., None]

    def to(self, device: torch.device | str) -> Self:
        """See :meth:`TaskDistribution.to`."""
        order = None if self.order is None else self.order.to(device)
        split, hidden = self._settings
        rows, means = self.rows.to(device), self.means.to(device)
        return type(self)(rows, self.users, self.fields, self.problem, split, means, hidden, order)


IDENTIFIERS = ("user", "item")  # names of the fields that name a user and an item; code 0 for those that were not trained on


def first_column(fields: tuple[Field, ...], name: str) -> int | None:
    """First column of a field; None if there is no such field."""
    column = 0
    for field in fields:
        if field.name == name:
            return column
        column += field.columns
    return None


def means_by_code(y: Tensor, codes: Tensor, size: int) -> Tensor:
    """Damped mean rating (codes,) of each code of an item in meta-training; for code 0 the mean of all.

    Args:
        y: (ratings,).
        codes: (ratings,) int64 in [0, size).
        size: number of codes.
    """
    mean = y.mean()
    return (mean + damped_means(y - mean, codes, size, DAMPING)).index_fill(0, torch.zeros(1, dtype=torch.int64), float(mean))


def _first(keys: Tensor, count: int) -> Tensor:
    """Places (tasks, count) of the smallest keys (tasks, width); place 0 again where there are too few."""
    places = keys.argsort(1)[:, :count]
    return torch.nn.functional.pad(places, (0, count - places.shape[1]))
