"""A data set with problems of its own: what a ride costs, scored in dollars or as the return of a bet."""

import torch
from torch import Tensor

from metaloop.data.functions.sinusoid import ParametricFunctions
from metaloop.data.philox import Stream
from metaloop.problems.baselines import support_mean
from metaloop.problems.metric import Metric
from metaloop.problems.problem import Baseline, Problem, Scores
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples

ERROR = Metric("absolute_error", "mean absolute error", unit="dollars", digits=2, higher_is_better=False, bounds=(0.0, None))
WORST = Metric("worst", "largest error", unit="dollars", digits=2, higher_is_better=False, bounds=(0.0, None))


class Dollars(Problem):
    """By how much a fare is missed."""

    name = "fares"
    metric = ERROR
    loss = MeanSquaredError()
    statistics = (WORST,)

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`."""
        missed = (outputs - query.y).abs().flatten(1)
        return {"score": missed.mean(1), "loss": self.losses(outputs, query), WORST.name: missed.amax(1)}

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline:
        """The mean fare that was seen."""
        return Baseline("mean fare", support_mean)


class Return(Problem):
    """What a bet of 100 on every fare returns; each dollar that it is off costs 50."""

    name = "bets"
    metric = Metric("return", "return", digits=1)
    loss = MeanSquaredError()

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`."""
        missed = (outputs - query.y).abs().flatten(1)
        return {"score": (100.0 - 50.0 * missed).mean(1), "loss": self.losses(outputs, query)}


class Fares(ParametricFunctions):
    """A town's fares: a basic price, and a rate for each of up to ten miles.

    Args:
        problem: how predictions are scored.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__((0.0, 10.0))
        self.problem = problem

    def parameters(self, stream: Stream, numbers: Tensor) -> Tensor:
        """(tasks, 2): basic price in [2, 6], rate in [1, 3]."""
        u = stream.uniform(numbers, 2, "fares")
        return torch.stack([2.0 + 4.0 * u[:, 0], 1.0 + 2.0 * u[:, 1]], -1)

    def values(self, parameters: Tensor, x: Tensor) -> Tensor:
        """See :meth:`ParametricFunctions.values`."""
        return parameters[:, :1] + parameters[:, 1:] * x
