"""Synthetic tasks of anomaly detection: inliers from random causal models, anomalies of several kinds."""

from typing import Self

import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.tables.anomalies.kinds import changed
from metaloop.data.tables.anomalies.layout import Supervision, check_size, detection_tasks, shots
from metaloop.data.tables.prior.causal_model import LAYERS, causal_nodes
from metaloop.data.tables.prior.columns import categorical, fewer, incomplete, irrelevant, warped
from metaloop.errors import UserError
from metaloop.problems.problem import Problem
from metaloop.types import EpisodeSpec, Tasks, highest

_SHARE = 0.1  # of anomalies among queries and support rows, where supervision says a data set's own


class AnomalyPrior(TaskDistribution):
    """Tasks whose inliers are rows of a random causal model (:mod:`metaloop.data.tables.prior.causal_model`).

    In a third of the tasks the anomalies are rows of the same model that belong together, as a rare class does: those with the
    highest values of a node, or those nearest to one row. In the others they are changed rows (:mod:`.kinds`). Columns are
    then skewed, cut into categories, made irrelevant or incomplete as in :mod:`metaloop.data.tables.prior.columns`.

    Args:
        problem: anomaly scoring.
        columns: highest number of columns.
        nodes: nodes of one layer of the causal models.
        missing: share of the tasks in which values are missing, in [0, 1].
        supervision: labelled and unlabelled anomalies of the support sets.
    """

    def __init__(self, problem: Problem, columns: int, nodes: int, missing: float, supervision: Supervision) -> None:
        if not 2 <= columns <= nodes * (LAYERS + 1):
            raise UserError(
                f"dataset.columns={columns}: from 2 to {nodes * (LAYERS + 1)}, the number of nodes of a causal model"
            )
        if not 0 <= missing <= 1:
            raise UserError(f"dataset.missing={missing} must be a share in [0, 1]")
        self.problem = problem
        self.input_shape = (2, columns)
        self.nodes, self.missing, self.supervision = nodes, missing, supervision

    def check(self, spec: EpisodeSpec) -> None:
        """See :func:`check_size`."""
        check_size(spec)

    def outputs(self, spec: EpisodeSpec) -> int:
        """One score."""
        return 1

    def elements(self, spec: EpisodeSpec) -> int:
        """See :meth:`TaskDistribution.elements`; every row has all nodes of its causal model."""
        return (highest(spec.shots) + spec.queries) * self.nodes * (LAYERS + 1) * 8

    def draw(self, stream: Stream, numbers: Tensor, spec: EpisodeSpec) -> Tasks:
        """See :meth:`TaskDistribution.draw`."""
        pool, labels = highest(spec.shots), self.supervision.labelled[1]
        share = _SHARE if self.supervision.share is None else self.supervision.share
        odd = min(max(1, round(share * spec.queries)), spec.queries - 1)
        hidden = self.supervision.contaminating(pool, _SHARE)
        inliers = pool + spec.queries - odd
        rows = self._table(stream, numbers, inliers, hidden + labels + odd)
        normal, anomalies = rows[:, :inliers], rows[:, inliers:]
        taken = normal[:, :pool].clone()
        taken[:, torch.arange(hidden, device=numbers.device) * pool // max(1, hidden)] = anomalies[:, :hidden]
        support = torch.cat([_with(0, taken), _with(1, anomalies[:, hidden : hidden + labels])], 1)
        query = torch.cat([_with(0, normal[:, pool:]), _with(1, anomalies[:, hidden + labels :])], 1)
        place = torch.arange(pool + labels, device=numbers.device)
        known = (place >= pool) & (place < pool + self.supervision.labels(stream, numbers))
        shown = known | (place < shots(stream, numbers, spec))
        return detection_tasks(
            support.double(), shown, query.double(), torch.ones_like(query[..., 0], dtype=torch.bool), numbers
        )

    def _table(self, stream: Stream, numbers: Tensor, inliers: int, anomalies: int) -> Tensor:
        """Rows (tasks, inliers + anomalies, columns), inliers first."""
        count, width = inliers + anomalies, self.input_shape[1]
        nodes, last, _ = causal_nodes(stream, numbers, count, self.nodes)
        order = self._class_order(stream, numbers, nodes, last, inliers)
        as_class = stream.uniform(numbers, 1, "anomalies are a class") < 1 / 3
        order = torch.where(as_class, order, torch.arange(count, device=numbers.device))
        nodes = nodes.gather(1, order[..., None].expand_as(nodes))
        sizes = torch.full((len(numbers), 1), nodes.shape[2], device=numbers.device)
        chosen = stream.without_replacement(numbers, sizes, width, "columns")[:, 0]
        rows = nodes.gather(2, chosen[:, None].expand(-1, count, -1))
        made = changed(stream, numbers, rows[:, inliers:], rows[:, :inliers])
        rows = torch.cat([rows[:, :inliers], torch.where(as_class[..., None], rows[:, inliers:], made)], 1)
        rows = irrelevant(stream, numbers, categorical(stream, numbers, warped(stream, numbers, rows)))
        return fewer(stream, numbers, incomplete(stream, numbers, rows, self.missing), least=2)

    def _class_order(self, stream: Stream, numbers: Tensor, nodes: Tensor, last: Tensor, inliers: int) -> Tensor:
        """An order of the rows (tasks, rows) whose last rows are alike: high in one node, or near to one row.

        The first ``inliers`` rows and the last ones are each in random order.
        """
        count = nodes.shape[1]
        node = stream.integers(numbers, 1, "node of the class", nodes.shape[2])
        high = nodes.gather(2, node[:, None].expand(-1, count, 1))[..., 0]
        row = stream.integers(numbers, 1, "centre of the class", count)
        centre = last.gather(1, row[..., None].expand(-1, 1, last.shape[2]))
        near = -(last - centre).square().sum(2)
        rank = torch.where(stream.uniform(numbers, 1, "kind of class") < 0.5, high, near).argsort(1).argsort(1)
        return ((rank >= inliers) + stream.uniform(numbers, count, "order of rows")).argsort(1)

    def to(self, device: torch.device | str) -> Self:
        """Return this distribution: tables are created on the device of the episode numbers."""
        return self


def _with(target: int, rows: Tensor) -> Tensor:
    """Rows (tasks, n, columns) with their target in front."""
    return torch.nn.functional.pad(rows, (1, 0), value=float(target))
