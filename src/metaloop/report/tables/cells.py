"""Cells of a pivot table, and the comparison of a column's cells with its best one and with a baseline."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from metaloop.errors import UserError
from metaloop.metrics.interval import Interval, Spread
from metaloop.metrics.multiple_comparisons import holm, pairs_of
from metaloop.metrics.paired import PairedDifference, stratified_difference, with_seeds
from metaloop.problems.metric import Metric
from metaloop.records.tables import Array
from metaloop.report.tables.facts import Fact, titled

Place = tuple[Fact, ...]


@dataclass(frozen=True)
class PivotCell:
    """One cell of a pivot table.

    Attributes:
        interval: mean and interval over episodes. An episode's score is its mean over seeds; data sets have equal weight.
        spread: spread of the seeds' means.
        strata: scores by ascending episode number, by the key of their episodes.
        over: the values that were averaged over.
        metric: metric of the scores.
        best: whether it has the best mean of its column.
        p_best: p-value of the paired test against the best, corrected over all pairs of the column, since the best was picked
            by its score. None for the best itself, and if the two cells have other episodes or were averaged over other
            values. Where there are several seeds, it takes their spread into account.
        against: difference to the baseline row; None for the baseline itself, and in the cases above.
        p_against: its p-value, corrected over the column.
    """

    interval: Interval
    spread: Spread
    strata: Mapping[str, Array]
    over: frozenset[Place]
    metric: Metric
    best: bool = False
    p_best: float | None = None
    against: PairedDifference | None = None
    p_against: float | None = None

    @property
    def alike(self) -> bool:
        """Whether it does not differ significantly from the best."""
        return self.p_best is not None and self.p_best > 1 - self.interval.level


def judged(column: Mapping[Place, PivotCell], baseline: Place | None, place: Place) -> dict[Place, PivotCell]:
    """Compare the cells of a column with its best one and with the baseline.

    Raises:
        UserError: the column mixes metrics.
    """
    metrics = {entry.metric.name: entry.metric for entry in column.values()}
    if len(metrics) > 1:
        name = ", ".join(titled("", value) for value in place) or "the table"
        raise UserError(f"the column {name} mixes {' and '.join(sorted(metrics))}; add setting or dataset to --columns")
    sign = next(iter(metrics.values())).sign
    sound = {row: entry for row, entry in column.items() if np.isfinite(entry.interval.mean)}
    best = max(sound, key=lambda row: sign * sound[row].interval.mean, default=None)
    to_best, to_base = _compared(column, best), _compared(column, baseline)
    p_best, p_base = _corrected(to_best, pairs_of(len(to_best) + 1)), _corrected(to_base)
    return {
        row: replace(entry, best=row == best, p_best=p_best.get(row), against=to_base.get(row), p_against=p_base.get(row))
        for row, entry in column.items()
    }


def _compared(column: Mapping[Place, PivotCell], with_row: Place | None) -> dict[Place, PairedDifference]:
    """Every other cell minus that of one row, for cells of the same episodes that were averaged over the same values."""
    if with_row is None or with_row not in column:
        return {}
    base = column[with_row]
    differences = {}
    for row, entry in column.items():
        if row != with_row and entry.strata.keys() == base.strata.keys() and entry.over == base.over:
            scores = [[list(each.strata[key]) for key in sorted(base.strata)] for each in (entry, base)]
            difference = stratified_difference(scores[0], scores[1], base.interval.level)
            differences[row] = with_seeds(difference, entry.spread, base.spread)
    return differences


def _corrected(differences: Mapping[Place, PairedDifference], family: int | None = None) -> dict[Place, float]:
    tested = {row: difference.p_value for row, difference in differences.items() if difference.p_value is not None}
    return dict(zip(tested, holm(list(tested.values()), family), strict=True))
