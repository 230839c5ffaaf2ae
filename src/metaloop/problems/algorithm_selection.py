"""Algorithm selection: choose a learner for a data set that nobody has tried one on."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metaloop.problems.metric import Metric
from metaloop.problems.problem import Baseline, Problem, Scores
from metaloop.problems.task_loss import MeanSquaredError
from metaloop.types import Examples, Inputs, Span

GAP_LEFT = Metric("gap_left", "share of the gap left", digits=3, higher_is_better=False)
CHANGED = Metric.percentage("changed", "data sets with another learner than the single best")


class AlgorithmSelection(Problem):
    """Choice of the learner with the highest predicted performance.

    Targets are performances (algorithms + 1,), higher is better. The last entry is that of the single best: the one learner
    that is best on average over the support set. Outputs are predicted performances of the same shape; the learner with the
    highest one is chosen, where the last entry means to keep to the single best.

    The score of a data set is ``1 - gain / gap``: its gain in performance over the single best, in units of the scenario's mean
    gap between the single best and the best learner of each data set (the oracle). Its mean is the share of that gap that is
    left (Lindauer et al. 2019): 0 for the oracle, 1 for the single best. The interval of the mean is that of the gains, which
    are paired differences of the two choices on the same data sets.

    Args:
        gap: mean over data sets of the oracle's performance minus the single best's, above 0.
        measure: name of the performance measure.
        algorithms: names of the learners, without the single best.
        features: names of the meta-features.
    """

    name = "algorithm_selection"
    metric = GAP_LEFT
    loss = MeanSquaredError()

    def __init__(self, gap: float, measure: str, algorithms: tuple[str, ...], features: tuple[str, ...]) -> None:
        self.gap = gap
        self.algorithms = algorithms
        self.features = features
        self.statistics = (Metric("performance", f"mean {measure.replace('_', ' ')}", digits=4), CHANGED)

    def scores(self, outputs: Tensor, query: Examples) -> Scores:
        """See :meth:`Problem.scores`."""
        chosen = outputs.argmax(-1, keepdim=True)  # the first of equals; the single best comes last
        performance, single = query.y.gather(-1, chosen)[..., 0], query.y[..., -1]
        columns = {
            "score": 1 - (performance - single) / self.gap,
            "performance": performance,
            "changed": (performance != single).to(performance.dtype),
        }
        mask = torch.ones_like(performance, dtype=torch.bool) if query.mask is None else query.mask
        means = {name: (value * mask).sum(-1) / mask.sum(-1).clamp(min=1) for name, value in columns.items()}
        return means | {"loss": self.losses(outputs, query)}

    def selection(self, scores: Mapping[str, Tensor]) -> tuple[Metric, Tensor]:
        """The score."""
        return self.metric, scores["score"]

    def baseline(self, input_shape: tuple[int, ...]) -> Baseline | None:
        """The learner that is best on average over the support set."""
        return Baseline("single best learner", _single_best)

    def setting(self, ways: Span, shots: Span) -> str:
        """The kind of task, in words."""
        return f"one of {len(self.algorithms)} learners for a new data set"


def _single_best(support: Examples, x: Inputs) -> Tensor:
    """Keep to the single best on all queries: 1 for the last entry, else 0, (tasks, queries, algorithms + 1)."""
    assert isinstance(x, Tensor)
    answers = support.y.new_zeros(*x.shape[:2], support.y.shape[-1])
    answers[..., -1] = 1.0
    return answers
