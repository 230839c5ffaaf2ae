"""Regression: predict the value of a query, or a normal distribution of it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metaloop.metrics.regression import band, episode_scores
from metaloop.problems.baselines import support_mean
from metaloop.problems.metric import LOG_LIKELIHOOD, MEAN_SQUARED_ERROR, Metric
from metaloop.problems.problem import Answers, Baseline, Line, Problem, Scores
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples, Tasks

COVERAGE = Metric("coverage", "queries within the 90 % bands", unit="%", scale=100.0, digits=1, bounds=(0.0, 1.0))


class Regression(Problem):
    """Problem whose score is the squared error of values, or of the means of predicted normal distributions.

    For distributions, further statistics are the log-likelihood of a target value and the coverage of the central 90 % bands.
    """

    name = "regression"
    metric = MEAN_SQUARED_ERROR
    loss = MeanSquaredError()
    statistics: tuple[Metric, ...] = (LOG_LIKELIHOOD, COVERAGE)
    sampled = 4

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; for distributions ``loss`` is the negative log-likelihood in nats."""
        return episode_scores(outputs, query.y, query.mask)

    def selection(self, scores: Mapping[str, Tensor]) -> tuple[Metric, Tensor]:
        """Log-likelihood for distributions, because a squared error ignores their spread; else the squared error."""
        if LOG_LIKELIHOOD.name in scores:
            return LOG_LIKELIHOOD, scores[LOG_LIKELIHOOD.name]
        return super().selection(scores)

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """Baseline that predicts the mean of the support targets."""
        return Baseline("mean of the support", support_mean)

    def samples(self, answers: Answers, tasks: Tasks, line: Line | None) -> Scores | None:
        """True and predicted functions of one number; None if inputs are not one-dimensional."""
        if line is None:
            return None
        support = tasks.support
        assert isinstance(support.x, Tensor)
        curve = answers.curve(line.grid[None, :, None].expand(len(tasks), -1, 1))
        real = torch.ones_like(support.y[..., 0], dtype=torch.bool) if support.mask is None else support.mask
        arrays = {
            "index": tasks.index,
            "grid": line.grid,
            "true": line.values,
            "support_x": support.x[..., 0].masked_fill(~real, torch.nan),  # plots leave out nan
            "support_y": support.y[..., 0].masked_fill(~real, torch.nan),
        }
        if curve.ndim == 5:  # (points, tasks, grid, 1, mean and standard deviation)
            low, high = band(curve[-1, ..., 0, :])
            return arrays | {"mean": curve[-1, ..., 0, 0], "low": low, "high": high}
        return arrays | {"before": curve[0, ..., 0], "after": curve[-1, ..., 0]}
