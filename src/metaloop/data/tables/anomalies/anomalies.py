"""Data sets of anomaly detection: tables of ADBench's layout, synthetic tasks, and a user's own rows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from metaloop.data.distribution import SPLITS, TaskDistribution, check_split
from metaloop.data.tables.anomalies.anomaly_prior import AnomalyPrior
from metaloop.data.tables.anomalies.detection_tables import DetectionTables
from metaloop.data.tables.anomalies.layout import Supervision
from metaloop.data.tables.anomalies.mixture import Mixture
from metaloop.data.tables.anomalies.own_rows import checked_rows, detection_inputs
from metaloop.data.tables.table_reading import ADBENCH, read_table
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import Columns, TargetScale, UserFileDataset, UserRows
from metaloop.errors import UserError
from metaloop.problems.anomaly_scoring import AnomalyScoring
from metaloop.problems.problem import Problem
from metaloop.types import Inputs

log = logging.getLogger(__name__)

_WIDEST = 1_000  # columns of a user's table


class Anomalies(UserFileDataset):
    """Few-shot anomaly detection on tables; a table is in one split alone.

    Args:
        tables: names of ADBench's tables of each split; a split without any has synthetic tasks.
        data_dir: folder with ADBench's folder ``adbench_classical`` of ``NUMBER_NAME.npz`` files.
        columns: number of columns of an input; wider tables show random ones in each episode.
        labelled: number of labelled anomalies in a support set for each split, or a range.
        contamination: share of anomalies among the support rows that are taken for inliers, for each split; "own" for each
            table's.
        synthetic: share of synthetic tasks in meta-training, in [0, 1].
        train_share: share of anomalies among the queries of meta-training; None for each table's own.
        nodes: nodes of one layer of the synthetic tasks' causal models.
        missing: share of the synthetic tasks in which values are missing.

    Raises:
        UserError: a value is of another type or out of range, or a table is in two splits.
    """

    problem: Problem = AnomalyScoring()

    def __init__(
        self,
        tables: Mapping[str, Sequence[str]],
        data_dir: str,
        columns: int,
        labelled: Mapping[str, object],
        contamination: Mapping[str, object],
        synthetic: float,
        train_share: float | None,
        nodes: int,
        missing: float,
    ) -> None:
        for key, value in (("tables", tables), ("labelled", labelled), ("contamination", contamination)):
            if set(value) != set(SPLITS):
                raise UserError(f"dataset.{key}={dict(value)!r}: one value for each of {', '.join(SPLITS)}")
        if not 0 <= synthetic <= 1:
            raise UserError(f"dataset.synthetic={synthetic!r} must be a share in [0, 1]")
        _check_apart(tables)
        self.tables = {split: tuple(names) for split, names in tables.items()}
        self.data_dir, self.columns, self.synthetic = data_dir, columns, synthetic
        self._supervision = {
            split: Supervision.of(split, labelled[split], contamination[split], train_share if split == "train" else None)
            for split in SPLITS
        }
        self._priors = {
            split: AnomalyPrior(self.problem, columns, nodes, missing, each) for split, each in self._supervision.items()
        }
        self._splits: dict[str, TaskDistribution] = {}

    def split(self, name: str) -> TaskDistribution:
        """See :meth:`Dataset.split`; the tables of a split are read when it is first asked for."""
        check_split(name)
        if name not in self._splits:
            self._splits[name] = self._opened(name)
        return self._splits[name]

    def _opened(self, name: str) -> TaskDistribution:
        if not self.tables[name] or (name == "train" and self.synthetic == 1):
            return self._priors[name]
        tables = [read_table(f"{ADBENCH}{each}", self.data_dir) for each in self.tables[name]]
        real = DetectionTables(tables, self.problem, self.columns, self._supervision[name], name)
        return Mixture(self._priors[name], real, self.synthetic) if name == "train" and self.synthetic else real

    def read_user_file(self, path: Path, columns: Columns, input_shape: tuple[int, ...], *, labelled: bool) -> UserRows:
        """See :meth:`UserFileDataset.read_user_file`. A row without a label counts as an inlier; the column may be absent.

        A table may have more columns than those of meta-training; a warning says so.
        """
        rows = read_user_table(path, columns, _WIDEST, labelled=False, one_hot=False)
        if labelled and len(rows.features) > input_shape[-1]:
            log.warning(
                "%s has %s columns, and the model was meta-trained on %s; it reads them all, but expect less, or leave some "
                "out with ignore=", path, len(rows.features), input_shape[-1],
            )  # fmt: skip
        assert isinstance(rows.inputs, Tensor)
        inputs = rows.inputs[:, : max(len(rows.features), input_shape[-1])]
        return checked_rows(replace(rows, inputs=inputs), labelled=labelled)

    def user_inputs(
        self, support: Inputs, targets: Tensor | None, mask: Tensor | None, query: Inputs
    ) -> tuple[Inputs, Inputs, TargetScale | None]:
        """See :meth:`UserFileDataset.user_inputs`; the scale leaves scores as they are."""
        assert isinstance(support, Tensor)
        assert isinstance(query, Tensor)
        return *detection_inputs(support, targets, query), TargetScale(0.0, 1.0)


def _check_apart(tables: Mapping[str, Sequence[str]]) -> None:
    """Raise a UserError if a table is named twice."""
    named = [(name, split) for split in SPLITS for name in tables[split]]
    for place, (name, split) in enumerate(named):
        for other, earlier in named[:place]:
            if other == name:
                raise UserError(f"dataset.tables: {name} is in {earlier} and in {split}; each table belongs to one split, once")
