"""Rating: predict what a user thinks of items, and rank the items that the user has not seen."""

import math

import torch
from torch import Tensor

from metaloop.errors import UserError
from metaloop.metrics.recommendation import ndcg
from metaloop.metrics.regression import episode_scores
from metaloop.problems.metric import LOG_LIKELIHOOD, Metric
from metaloop.problems.problem import Problem, Scores, span_text
from metaloop.problems.regression import COVERAGE
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples, Span

MEAN_ABSOLUTE_ERROR = Metric("mae", "mean absolute error", digits=4, higher_is_better=False, bounds=(0.0, None))
ROOT_MEAN_SQUARED_ERROR = Metric("rmse", "root mean squared error", digits=4, higher_is_better=False, bounds=(0.0, None))


class Rating(Problem):
    """Prediction of the ratings of one user, from a few ratings of the same user.

    Targets and outputs are ratings minus the middle of the scale, in its unit. Predictions beyond the scale are cut to it.

    - ``mae``, the score: mean over a user's queries of ``|rating - prediction|``; its mean is over users (Lee et al. 2019).
    - ``rmse``: root of the mean over a user's queries of the squared error; its mean is over users, too.
    - ``ndcg_k``: nDCG@k of the user's queries ranked by prediction; relevance is the rating minus the lowest possible one. See
      :func:`metaloop.metrics.recommendation.ndcg`. The queries are items that the user rated and the learner has not seen
      rated; items without a rating are not ranked.

    A learner that predicts normal distributions has, for each score, the prediction that is expected to be best: for ``mae``
    the median of the rating, which on a scale of whole stars is the possible rating that is nearest to the mean; for the
    others the mean. Further statistics of it are the log-likelihood of a rating and the coverage of the central 90 % bands.

    Args:
        low: lowest rating.
        high: highest rating.
        k: number of items at the top of a ranking that nDCG counts.
        scenario: which of users and items are new at meta-test, in words.
        step: difference between neighbouring ratings, such as 1 for whole stars; 0 if any number may be a rating.
    """

    name = "rating"
    metric = MEAN_ABSOLUTE_ERROR
    loss = MeanSquaredError()

    def __init__(self, low: float, high: float, k: int, scenario: str, step: float = 0.0) -> None:
        if not low < high:
            raise UserError(f"a scale of ratings from {low} to {high}: the highest rating must be above the lowest")
        if not 0 <= step <= high - low:
            raise UserError(f"a scale of ratings from {low} to {high} in steps of {step}: a step is at least 0 and fits in it")
        if not isinstance(k, int) or k < 1:
            raise UserError(f"dataset.top={k!r}: a whole number of at least 1, the items at the top that nDCG counts")
        self.low, self.high, self.k, self.scenario, self.step = low, high, k, scenario, step
        self.ndcg = Metric(f"ndcg_{k}", f"nDCG@{k}", digits=4, bounds=(0.0, 1.0))
        self.statistics = (ROOT_MEAN_SQUARED_ERROR, self.ndcg, LOG_LIKELIHOOD, COVERAGE)

    @property
    def middle(self) -> float:
        """Middle of the scale, which targets and outputs are relative to."""
        return (self.low + self.high) / 2

    def cut(self, outputs: Tensor) -> Tensor:
        """Outputs cut to the scale; of distributions their means alone."""
        return outputs.clamp(self.low - self.middle, self.high - self.middle)

    def nearest(self, outputs: Tensor) -> Tensor:
        """The possible ratings that are nearest to ``outputs``, relative to the middle of the scale as these."""
        if not self.step:
            return self.cut(outputs)
        first, last = self.low - self.middle, math.floor((self.high - self.low) / self.step + 1e-6)
        place = ((outputs - first) / self.step + 0.5).floor().clamp(0, last)  # halves upwards, not to even numbers
        return first + self.step * place

    def errors(self, means: Tensor, deviations: Tensor | None, targets: Tensor) -> Tensor:
        """See :meth:`Problem.errors`; absolute errors in the unit of ratings."""
        points = means if deviations is None else self.nearest(means - self.middle) + self.middle
        return (points - targets).abs()

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`; ``score`` is the mean absolute error in the unit of ratings."""
        scores = episode_scores(outputs, query.y, query.mask)
        distributions = outputs.shape == (*query.y.shape, 2)
        ratings = query.y[..., 0]
        real = torch.ones_like(ratings, dtype=torch.bool) if query.mask is None else query.mask
        means = self.cut((outputs[..., 0, 0] if distributions else outputs[..., 0]).to(scores["loss"].dtype))
        medians, number = self.nearest(means) if distributions else means, real.sum(1).clamp(min=1)
        return scores | {
            "score": (medians - ratings).abs().masked_fill(~real, 0.0).sum(1) / number,
            "rmse": ((means - ratings).square().masked_fill(~real, 0.0).sum(1) / number).sqrt(),
            self.ndcg.name: ndcg(means, ratings + self.middle - self.low, self.k, query.mask).to(means.dtype),
        }

    def setting(self, ways: Span, shots: Span) -> str:
        """The scenario and the size of a support set, in words."""
        return f"{self.scenario}, {span_text(shots)} ratings"
