"""The prior of TabICL (Qu et al. 2025) from the package tabicl, as a second prior to compare with ours."""

import importlib.util
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from metaloop.data.distribution import TaskDistribution
from metaloop.data.philox import Stream
from metaloop.data.tables.prior.table_prior import SyntheticTables, TablePrior
from metaloop.errors import UserError
from metaloop.problems.problem import Problem

KINDS = ("mlp_scm", "tree_scm", "mix_scm")


class TabiclPrior(TablePrior):
    """As :class:`TablePrior`, with tables of the package tabicl (BSD-3-Clause) for meta-training and meta-validation.

    Its tables have no missing values; ``missing`` hides none.

    Args:
        problem: a classification, or a regression.
        columns: highest number of features of a synthetic table.
        kind: structural causal models of perceptrons ("mlp_scm"), of trees ("tree_scm") or of both ("mix_scm").
        tables: names of the real tables (see :mod:`metaloop.data.tables.table_reading`).
        data_dir: folder of the real tables.

    Raises:
        UserError: ``kind`` is none of these, or a package is not installed.
    """

    def __init__(self, problem: Problem, columns: int, kind: str, tables: Sequence[str], data_dir: str) -> None:
        if kind not in KINDS:
            raise UserError(f"dataset.kind={kind!r}: one of {', '.join(KINDS)}")
        missing = [package for package in ("tabicl", "xgboost") if importlib.util.find_spec(package) is None]
        if missing:
            raise UserError(
                f"dataset=tabicl_prior needs {' and '.join(missing)}, not installed: pip install 'metaloop[tabicl]'; or take "
                f"dataset=table_prior, a prior of our own"
            )
        self.kind = kind
        super().__init__(problem, columns, nodes=columns, missing=0.0, tables=tables, data_dir=data_dir)

    def make_synthetic(self, problem: Problem, columns: int, nodes: int, missing: float) -> TaskDistribution:
        """See :meth:`TablePrior.make_synthetic`."""
        return TabiclTables(problem, columns, self.kind)


class TabiclTables(SyntheticTables):
    """The distribution of tabicl's tables; arguments as for :class:`TabiclPrior`.

    A table is a function of its number: torch's, numpy's and Python's own generators are seeded by it, and get back their
    states. Tables of several numbers are made one after the other.
    """

    def __init__(self, problem: Problem, columns: int, kind: str) -> None:
        super().__init__(problem, columns, nodes=columns, missing=0.0)
        self.kind = kind

    def tables(self, stream: Stream, numbers: Tensor, rows: int, most: int) -> tuple[Tensor, Tensor]:
        """See :meth:`SyntheticTables.tables`."""
        seeds = stream.bits(numbers, 1, "tabicl")[:, 0].tolist()
        made = [self._table(seed, rows, most) for seed in seeds]
        features, targets = (torch.stack(part).to(numbers.device) for part in zip(*made, strict=True))
        return features, targets

    def _table(self, seed: int, rows: int, most: int) -> tuple[Tensor, Tensor]:
        from tabicl.prior import PriorDataset

        width = self.input_shape[1]
        with _seeded(seed):
            prior = PriorDataset(
                regression=not self.problem.has_classes, batch_size=1, batch_size_per_gp=1, min_features=2, max_features=width,
                max_classes=most, max_seq_len=rows, min_train_size=0.5, max_train_size=0.6, prior_type=self.kind, n_jobs=1,
            )  # fmt: skip
            x, y, active, _, _ = prior.get_batch(1)
        features = x[0].float().masked_fill(torch.arange(x.shape[-1]) >= active[0], torch.nan)
        features = torch.nn.functional.pad(features, (0, width - features.shape[1]), value=torch.nan)
        return features, y[0].long() if self.problem.has_classes else y[0].float()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators during the block; tabicl draws from them."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - tabicl draws from the legacy generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
