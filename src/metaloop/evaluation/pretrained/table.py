"""A finished run of tables, used without files: arrays in, answers out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaloop.config.build import build_dataset, build_plan
from metaloop.config.trained_on import trained_on
from metaloop.data.tables.own_tables import own_inputs
from metaloop.data.user.tasks import TargetScale
from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.evaluation.pretrained.shipped import shipped_run, shipped_runs
from metaloop.learners.context.in_context import InContext
from metaloop.problems.classification import Classification
from metaloop.problems.regression import Regression
from metaloop.types import Examples

MOST_ROWS = 10_000  # of a support set; the time of an answer grows with their number, and its memory, too


@dataclass(frozen=True)
class PretrainedTable:
    """An in-context learner of tables with a run's parameters.

    Attributes:
        learner: the learner, in evaluation mode, in double precision.
        classes: highest number of classes that it can tell apart; 0 for a regression.
    """

    learner: InContext
    classes: int

    def probabilities(self, x: np.ndarray, y: np.ndarray, query: np.ndarray, classes: int) -> np.ndarray:
        """Probabilities (queries, classes) of the classes of ``query``.

        Args:
            x: (rows, features) float64, nan for a missing value.
            y: (rows,) numbers of classes, from 0 to ``classes - 1``.
            query: (queries, features).
            classes: number of classes, at least 2.
        """
        support_x, query_x, _ = _inputs(x, None, query)
        support = Examples(support_x, torch.tensor(y)[None], None, classes, torch.zeros(1, dtype=torch.int64))
        with torch.no_grad():
            logits = self.learner.adapt(support)(query_x, None)[0]
        return np.asarray(logits[:, :classes].softmax(-1).numpy())

    def moments(self, x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Means and standard deviations (queries, 2) of the targets of ``query``; arguments as above, ``y`` float64."""
        support, query_x, scale = _regression(x, y, query)
        with torch.no_grad():
            answer = self.learner.adapt(support)(query_x, None)[0][:, 0].numpy()
        return np.asarray(answer * scale.unit + np.array([scale.mean, 0.0]))

    def quantiles(self, x: np.ndarray, y: np.ndarray, query: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """Quantiles (queries, levels) of the targets of ``query``; needs a run with ``algorithm.bars``."""
        support, query_x, scale = _regression(x, y, query)
        with torch.no_grad():
            bars, logits = self.learner.distribution(support.map(lambda each: each[0]), query_x[0])
            found = bars.quantiles(logits, torch.tensor(levels, dtype=logits.dtype))
        return np.asarray(found.numpy() * scale.unit + scale.mean)


@lru_cache(maxsize=4)
def pretrained_table(model: str | Path, members: int | None) -> PretrainedTable:
    """Open a run that comes with the package, or a run directory.

    Args:
        model: name or directory.
        members: versions of a task whose answers are averaged; None for the run's own number.

    Raises:
        UserError: there is no such run, or it is none of ``algorithm=tabular_transformer`` that classifies or predicts values.
    """
    directory = shipped_run(model)
    if directory is None and not Path(model).is_dir():
        raise UserError(f"model={str(model)!r} is no run directory; runs that come with metaloop: {', '.join(shipped_runs())}")
    run = FinishedRun.open(directory or model)
    config: dict[str, Any] = dict(run.config)
    if members is not None:
        reader = {**config["algorithm"].get("reader", {}), "members": members}
        config["algorithm"] = {**config["algorithm"], "reader": reader}
    train, plan = build_dataset(config).split("train"), build_plan(config)
    tasks = trained_on(train, plan.train_spec)
    learner = run.learner(config, tasks)
    if not isinstance(learner, InContext):
        raise UserError(f"model={str(model)!r} is a run of {type(learner).__name__}; train algorithm=tabular_transformer")
    if not isinstance(tasks.problem, Classification | Regression):
        raise UserError(
            f"model={str(model)!r} is a run of {tasks.problem.name.replace('_', ' ')}, not of classes or values: use it by "
            f"metaloop predict or metaloop.adapt_to"
        )
    return PretrainedTable(learner.double().eval(), tasks.outputs if tasks.problem.has_classes else 0)


def _inputs(x: np.ndarray, y: np.ndarray | None, query: np.ndarray) -> tuple[Tensor, Tensor, TargetScale | None]:
    targets = None if y is None else torch.tensor(y)[None]
    support, queries, scale = own_inputs(torch.tensor(x)[None], targets, None, torch.tensor(query)[None])
    return support.double(), queries.double(), scale


def _regression(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> tuple[Examples, Tensor, TargetScale]:
    support_x, query_x, scale = _inputs(x, y, query)
    assert scale is not None
    targets = torch.tensor((y - scale.mean) / scale.unit)[None, :, None]
    return Examples(support_x, targets, None, 0, torch.zeros(1, dtype=torch.int64)), query_x, scale
