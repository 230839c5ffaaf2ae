"""Items as their mean rating and latent factors, for baselines that fit one user to them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from metaloop.errors import UserError
from metaloop.metrics.recommendation import damped_means
from metaloop.models.model import Model
from metaloop.types import Examples, Field

_ITEM = "item"  # name of the field that names an item


class ItemFactors(nn.Module, Model):
    """A table of items, computed from the meta-training ratings and not trained further: the item's mean, and its factors.

    Ratings are explained by a mean, damped means of items and users (Koren 2010, equation 2), and products of factors, which
    alternating least squares finds (Koren, Bell and Volinsky 2009). An unknown item has the mean of all and factors of zero.

    Args:
        input_shape: (columns,), those of ``fields``.
        outputs: None; there can be no head.
        fields: features that the columns hold, among them "item".
        labelled: meta-training ratings (ratings, 1) with the user as ``sequence``; None where the table is loaded.
        factors: number of factors.
        damping: number of ratings of 0 that draw the means of items and users towards that of all.
        penalty: weight of the squared length of a user's or item's factors against squared errors.
        sweeps: number of times that users' and items' factors are computed in turn.

    Raises:
        UserError: a head is asked for, or inputs do not name items.
    """

    head = None
    needs_fields = True
    needs_labelled = True
    table: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int | None,
        fields: Sequence[Field],
        labelled: Examples | None,
        factors: int,
        damping: float,
        penalty: float,
        sweeps: int,
    ) -> None:
        super().__init__()
        if outputs is not None:
            raise UserError("model=item_factors has no head: take it with algorithm=estimator")
        if factors < 0 or sweeps < 1 or not (damping >= 0 and penalty > 0):
            raise UserError(
                f"model.factors={factors}, model.sweeps={sweeps}, model.damping={damping}, model.penalty={penalty}: at least "
                f"0, at least 1, at least 0, and above 0"
            )
        names = [field.name for field in fields]
        if _ITEM not in names:
            raise UserError("model=item_factors needs to know the items: add item to dataset.ids")
        place = names.index(_ITEM)
        self.column, self.features = sum(field.columns for field in fields[:place]), 1 + factors
        table = torch.zeros(fields[place].size, self.features)
        if labelled is not None:
            table = item_table(labelled, self.column, len(table), factors, damping, penalty, sweeps)
        self.register_buffer("table", table)

    def forward(self, x: Tensor) -> Tensor:
        """Map (examples, columns) int64 to (examples, 1 + factors)."""
        return self.table[x[:, self.column]]


def item_table(labelled: Examples, column: int, size: int, factors: int, damping: float, penalty: float, sweeps: int) -> Tensor:
    """Mean rating and factors (items, 1 + factors) float32 of each item; row 0 is of unknown ones."""
    assert isinstance(labelled.x, Tensor)
    assert labelled.sequence is not None
    item, user, y = labelled.x[:, column], labelled.sequence, labelled.y[:, 0].double()
    mean = y.mean()
    of_items = damped_means(y - mean, item, size, damping)
    rest = y - mean - of_items[item]
    rest = rest - damped_means(rest, user, int(user.max()) + 1, damping)[user]
    found = _factors(user.numpy(), item.numpy(), rest.numpy(), size, factors, penalty, sweeps)
    known = torch.bincount(item, minlength=size) > 0
    known[0] = False
    means = mean + of_items.masked_fill(~known, 0.0)
    return torch.cat([means[:, None], torch.from_numpy(found) * known[:, None]], 1).float()


def _factors(
    user: np.ndarray, item: np.ndarray, rest: np.ndarray, items: int, factors: int, penalty: float, sweeps: int
) -> np.ndarray:
    """Factors (items, factors) of the items, by alternating least squares on what means do not explain."""
    of_items = 0.1 * np.random.default_rng(0).normal(size=(items, factors))
    of_users = np.zeros((int(user.max()) + 1, factors))
    for _ in range(sweeps if factors else 0):
        _solve(of_users, of_items, user, item, rest, penalty)
        _solve(of_items, of_users, item, user, rest, penalty)
    return of_items


def _solve(
    wanted: np.ndarray, given: np.ndarray, group: np.ndarray, other: np.ndarray, rest: np.ndarray, penalty: float
) -> None:
    """Replace the factors ``wanted`` (groups, factors) by ridge regressions of each group's ratings on the factors given."""
    order = np.argsort(group, kind="stable")
    groups, starts = np.unique(group[order], return_index=True)
    ridge = penalty * np.eye(wanted.shape[1])
    for place, rows in zip(groups, np.split(order, starts[1:]), strict=True):
        x = given[other[rows]]
        wanted[place] = np.linalg.solve(x.T @ x + ridge, x.T @ rest[rows])
