"""A data set of ratings with the four scenarios of Lee et al. 2019: which of users and items are new at meta-test."""

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import SPLITS, check_split
from metaloop.data.ratings.table import RatingTable
from metaloop.data.ratings.tasks import IDENTIFIERS, RatingTasks, Rows, first_column, means_by_code
from metaloop.data.ratings.user_ratings import item_hash, read_order, read_user_ratings
from metaloop.data.user.tasks import Columns, TargetScale, UserFileDataset, UserRows, UserTask
from metaloop.errors import UserError
from metaloop.problems.rating import Rating
from metaloop.types import Field, Inputs

log = logging.getLogger(__name__)

SCENARIOS = {  # in words, and what is new: users, items
    "warm": ("known users and items", False, False),
    "new_users": ("new users", True, False),
    "new_items": ("new items", False, True),
    "new_both": ("new users and items", True, True),
}
_PARTS = ("users", "items", "ratings")


class Ratings(UserFileDataset):
    """Ratings of a table, divided by users, by items and by ratings.

    Users, items and the remaining ratings are each divided at random into three parts, by ``shares``. Meta-training always has
    the ratings of the first part by users of the first part on items of the first part, so that one run can be tested in all
    scenarios. Meta-validation and meta-test have the second and third part:

    - ``warm``: of the ratings; known users and items. The support set has ratings of the user that were trained on.
    - ``new_users``: of the users; known items.
    - ``new_items``: of the items; known users.
    - ``new_both``: of users and items.

    Lee et al. divide items by the year of release and users at random; we divide both at random.

    Args:
        scenario: one of the above.
        ids: whose identifiers are features: any of "user" and "item". Those of users and items that are not in meta-training
            are "unknown" everywhere. Identifiers of users let a model remember the training users in place of reading the
            support set (Yin et al. 2020), and say nothing about new ones.
        hidden: share of the meta-training examples whose identifiers are "unknown", in [0, 1), so that this is learned, too.
        top: number of items at the top of a ranking that nDCG counts.
        shares: for each of users, items and ratings, the shares of meta-validation and meta-test.
        division: seed of the division.
        evidence: CSV file with the column ``item``, the items to rate first; the support sets of meta-validation and meta-test
            have the user's ratings of these, in this order, and random ones after them. None for random ones.
    """

    step: ClassVar[float] = 1.0  # between neighbouring ratings: whole stars

    def __init__(
        self,
        scenario: str,
        ids: Sequence[str],
        hidden: float,
        top: int,
        shares: Mapping[str, Sequence[float]],
        division: int = 0,
        evidence: str | None = None,
    ) -> None:
        if scenario not in SCENARIOS:
            raise UserError(f"dataset.scenario={scenario!r} must be one of {', '.join(SCENARIOS)}")
        if unknown := set(ids) - set(IDENTIFIERS):
            raise UserError(f"dataset.ids={list(ids)}: {sorted(unknown)[0]!r} is not among {', '.join(IDENTIFIERS)}")
        if not 0 <= hidden < 1:
            raise UserError(f"dataset.hidden={hidden} must be a share in [0, 1)")
        _check_shares(shares)
        self.scenario, self.ids, self.hidden = scenario, tuple(ids), hidden
        self.shares, self.division, self.evidence = shares, division, evidence
        low, high = self.scale
        self.problem: Rating = Rating(low, high, top, SCENARIOS[scenario][0], self.step)
        self._splits: dict[str, RatingTasks] = {}

    @property
    @abstractmethod
    def scale(self) -> tuple[float, float]:
        """Lowest and highest possible rating."""

    @abstractmethod
    def read(self) -> RatingTable:
        """Read or make the ratings.

        Raises:
            UserError: files are missing or broken.
        """

    @cached_property
    def table(self) -> RatingTable:
        """The ratings, read at the first use."""
        return self.read()

    @cached_property
    def parts(self) -> dict[str, np.ndarray]:
        """The part, 0, 1 or 2, of each of the users, items and ratings."""
        return {name: self._part(name) for name in _PARTS}

    def split(self, name: str) -> RatingTasks:
        """See :meth:`Dataset.split`. The first call reads the ratings."""
        check_split(name)
        if not self._splits:
            inputs = self.inputs_of(self.table.user, self.table.item)
            chosen = {split: self._rows(split, inputs) for split in SPLITS}
            train, column = chosen["train"][0], first_column(self.fields, "item")
            codes = torch.zeros_like(train.item) if column is None else train.x[:, column]
            means = means_by_code(train.y, codes, len(self.table.items.names) + 1)
            order = None if self.evidence is None else read_order(self.evidence, self.table)
            for split, (rows, users) in chosen.items():
                of_training = split == "train"
                more = (self.hidden, None) if of_training else (0.0, order)
                self._splits[split] = RatingTasks(rows, users, self.fields, self.problem, split, means, *more)
        return self._splits[name]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Features of an input, in the order of its columns: those of the user, then those of the item."""
        table = self.table
        user, item = (
            (Field(name, len(side.names) + 1, name == "user"),) if name in self.ids else ()
            for name, side in (("user", table.users), ("item", table.items))
        )
        return (*user, *table.users.fields, *item, *table.items.fields)

    def inputs_of(self, user: np.ndarray, item: np.ndarray) -> Tensor:
        """Inputs (examples, columns) int64 of pairs of a user and an item; -1 for a user of whom nothing is known."""
        parts = []
        for name, side, places in (("user", self.table.users, user), ("item", self.table.items, item)):
            if name in self.ids:
                known = (places >= 0) & (self.parts[f"{name}s"][places] == 0)
                parts.append(np.where(known, places + 1, 0)[:, None])
            parts.append(np.where((places >= 0)[:, None], side.codes[places], 0))
        return torch.from_numpy(np.concatenate(parts, 1))

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """Read one user's ratings, or items to predict; see :func:`metaloop.data.ratings.user_ratings.read_user_ratings`."""
        rows, item, codes = read_user_ratings(path, columns, self.table, labelled=labelled)
        return replace(rows, inputs=self._of_new_user(item, codes))

    def unseen(self, task: UserTask) -> UserRows:
        """All items of the data set that are not in a user's support set, to be ranked."""
        items = self.table.items
        hashes = tuple(map(item_hash, items.names))
        rest = [place for place, each in enumerate(hashes) if each not in task.known]
        inputs = self._of_new_user(np.array(rest, dtype=np.int64), np.zeros(self.table.users.codes.shape[1], np.int64))
        titles, kept = tuple(items.titles[place] for place in rest), tuple(hashes[place] for place in rest)
        return UserRows(Path(self.table.name), "", inputs, (None,) * len(rest), titles, kept)

    def user_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, TargetScale | None]:
        """See :meth:`UserFileDataset.user_inputs`; the queries get the features of the support set's user."""
        assert isinstance(support, Tensor)
        assert isinstance(query, Tensor)
        columns = sum(field.columns for field in self.fields if field.of_user)
        of_user = support[:, :1, :columns].expand(-1, query.shape[1], -1)
        scale = TargetScale(self.problem.middle, 1.0, self.scale)
        return support, torch.cat([of_user, query[..., columns:]], -1), scale

    def catalogue(self) -> str:
        """See :meth:`UserFileDataset.catalogue`: fields, items and their features, and which of them are known."""
        table = self.table
        names = hashlib.sha256(repr((self.fields, table.items.names, table.items.titles, table.users.values)).encode())
        names.update(table.items.codes.tobytes() + (self.parts["items"] == 0).tobytes())
        return names.hexdigest()

    def _of_new_user(self, item: np.ndarray, codes: np.ndarray) -> Tensor:
        """Inputs of these items for a user with these feature codes who is not in the data set."""
        inputs = self.inputs_of(np.full(len(item), -1), item)
        first = int("user" in self.ids)
        inputs[:, first : first + len(codes)] = torch.from_numpy(codes)
        return inputs

    def _part(self, name: str) -> np.ndarray:
        """The part, 0, 1 or 2, of each user, item or rating."""
        counts = {"users": len(self.table.users.names), "items": len(self.table.items.names), "ratings": len(self.table.user)}
        random = np.random.default_rng([self.division, _PARTS.index(name)])
        place = random.permutation(counts[name]) / counts[name]
        validation, test = self.shares[name]
        return np.where(place < test, 2, np.where(place < test + validation, 1, 0))

    def _rows(self, split: str, inputs: Tensor) -> tuple[Rows, tuple[str, ...]]:
        """The ratings of a split, and the names of its users."""
        table, parts, number = self.table, self.parts, SPLITS.index(split)
        _, new_users, new_items = SCENARIOS[self.scenario]
        user, item = parts["users"][table.user], parts["items"][table.item]
        if number == 0 or self.scenario == "warm":
            inside = (user == 0) & (item == 0) & np.isin(parts["ratings"], [0, number])
        else:
            inside = (user == number * new_users) & (item == number * new_items)
        rows = np.flatnonzero(inside)
        rows = rows[np.argsort(table.user[rows], kind="stable")]
        users, numbered = np.unique(table.user[rows], return_inverse=True)
        asked = (parts["ratings"][rows] == number) & (number > 0) & (self.scenario == "warm")
        y = torch.from_numpy(table.rating[rows]).float() - self.problem.middle
        made = Rows(
            inputs[torch.from_numpy(rows)],
            y,
            torch.from_numpy(numbered.reshape(-1)),
            torch.from_numpy(table.item[rows]),
            torch.from_numpy(asked),
        )
        return made, tuple(table.users.names[each] for each in users)


def _check_shares(shares: Mapping[str, Sequence[float]]) -> None:
    for name in _PARTS:
        pair = shares.get(name)
        if pair is None or len(pair) != 2 or not all(0 < share < 1 for share in pair) or sum(pair) >= 1:
            raise UserError(
                f"dataset.shares.{name}={pair}: two shares above 0 with a sum below 1, for meta-validation and meta-test"
            )
