"""Comparison of a published number with ours: the ``paper`` block of an experiment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from metaloop.errors import UserError
from metaloop.problems.metric import (
    ACCURACY,
    ENTITY_F1,
    LOG_LIKELIHOOD,
    MEAN_RETURN,
    MEAN_SQUARED_ERROR,
    MISSING,
    TOTAL_REWARD,
    Metric,
)
from metaloop.records.published import Paper, Published
from metaloop.records.schema import CurvePoint, Estimate, MetaTest, Record
from metaloop.records.typed_json import decode

MARKS = {
    "V": "read in the authors' own repository or thread",
    "S": "seen in an independent copy of the paper's table",
    "M": "from memory, not confirmed",
}
Verdict = Literal["within tolerance", "better", "worse"]
_BY_NAME = {
    metric.name: metric for metric in (ACCURACY, ENTITY_F1, MEAN_SQUARED_ERROR, LOG_LIKELIHOOD, TOTAL_REWARD, MEAN_RETURN)
}


@dataclass(frozen=True)
class PaperComparison:
    """A published number and ours, as stored (accuracies as fractions).

    Attributes:
        paper: the paper block.
        metric: metric of both numbers.
        measured: our meta-test mean.
    """

    paper: Paper
    metric: Metric
    measured: float

    @property
    def published(self) -> float:
        """The paper's mean."""
        assert self.paper.published is not None  # compare() makes no comparison without one
        return self.paper.published.mean

    @property
    def difference(self) -> float:
        """``measured - published``."""
        return self.measured - self.published

    @property
    def within(self) -> bool:
        """Whether the difference is at most the tolerance that the experiment file states."""
        # 1e-12: rounding must not exclude a difference equal to the tolerance.
        return abs(self.difference) <= self.paper.tolerance + 1e-12

    @property
    def verdict(self) -> Verdict:
        """Whether the difference is within tolerance, or else which number is better."""
        if self.within:
            return "within tolerance"
        return "better" if self.metric.better(self.measured, self.published) else "worse"

    @property
    def outcome(self) -> str:
        """``reproduced``, or the difference and whether ours is better or worse."""
        return "reproduced" if self.within else f"off by {self.difference_text} ({self.verdict})"

    @property
    def published_text(self) -> str:
        """The published number with its interval and its mark, such as ``98.70 ± 0.40 [S]``."""
        return published_text(self.paper, self.metric)

    @property
    def difference_text(self) -> str:
        """The signed difference, formatted."""
        return self.metric.difference(self.difference)


def published_text(paper: Paper, metric: Metric) -> str:
    """The published number with its interval and its mark, such as ``98.70 ± 0.40 [S]``; a dash if there is none."""
    if paper.published is None:
        return MISSING
    return f"{metric.interval(paper.published.mean, paper.published.half_width)} [{paper.mark}]"


def read_paper(block: Mapping[str, Any], metric: Metric | None = None) -> Paper:
    """Read and check a ``paper`` block of a config. Called before training, so that a wrong block stops the run early.

    Args:
        block: the block in the config.
        metric: the experiment's metric; None if it is not known yet.

    Raises:
        UserError: a key is missing or unknown, or a number is impossible; names the key.
    """
    paper = decode(Paper, block, "config", "paper")
    check_paper(paper, metric or (metric_of(paper) if paper.metric is not None else None))
    return paper


def metric_of(paper: Paper) -> Metric:
    """The metric that the block names; accuracy if it names none.

    Raises:
        UserError: the block names an unknown metric.
    """
    if isinstance(paper.metric, Metric):
        return paper.metric
    if paper.metric is not None and paper.metric not in _BY_NAME:
        raise UserError(
            f"paper.metric={paper.metric!r}: give one of {', '.join(_BY_NAME)}, or a mapping with the name, title, unit, "
            "scale, digits, higher_is_better and bounds of a metric of your own"
        )
    return _BY_NAME[paper.metric or ACCURACY.name]


def published_metric(paper: Paper | None, test: MetaTest) -> Metric:
    """Metric of the published number: that of the run's score, or of a statistic beside it which ``paper.metric`` names.

    Neural processes are scored by squared errors here, and published by log-likelihoods.
    """
    named = None if paper is None else paper.metric.name if isinstance(paper.metric, Metric) else paper.metric
    return test.metric if named in (None, test.metric.name) or named not in test.others else test.others[named].metric


def check_paper(paper: Paper, metric: Metric | None) -> None:
    """Check the values of a block beyond their types.

    Raises:
        UserError: a number is impossible, or the block names another metric; names the key.
    """
    if paper.mark not in MARKS:
        raise UserError(f"paper.mark={paper.mark!r}: one of {', '.join(MARKS)}")
    _check_numbers("", paper.published, paper.tolerance, metric)
    for name, row in paper.also.items():
        if row.mark is not None and row.mark not in MARKS:
            raise UserError(f"paper.also.{name}.mark={row.mark!r}: one of {', '.join(MARKS)}")
        _check_numbers(f"also.{name}.", row.published, row.tolerance, metric)
    if metric is None:
        return
    named = paper.metric.name if isinstance(paper.metric, Metric) else paper.metric
    if named not in (None, metric.name):
        raise UserError(f"paper.metric={named!r}: the run's metric is {metric.name!r}; change paper.metric")


def _check_numbers(prefix: str, published: Published | None, tolerance: float | None, metric: Metric | None) -> None:
    widest, half_width = _widest(metric), None if published is None else published.half_width
    for key, value in (("published.half_width", half_width), ("tolerance", tolerance)):
        if value is not None and not 0 <= value <= widest:
            raise UserError(f"paper.{prefix}{key}={value!r}: {_expected(metric, 0, widest)}")
    if metric is not None and published is not None and not metric.in_bounds(published.mean):
        raise UserError(f"paper.{prefix}published.mean={published.mean!r}: {_expected(metric, *metric.bounds)}")


def _widest(metric: Metric | None) -> float:
    low, high = metric.bounds if metric else (None, None)
    return float("inf") if low is None or high is None else high - low


def _expected(metric: Metric | None, low: float | None, high: float | None) -> str:
    kept = "" if metric is None or metric.scale == 1 else f"; as it is stored, not in {metric.unit}"
    lowest = "any number" if low is None else f"at least {low:g}"
    return f"{lowest}{'' if high is None or high == float('inf') else f' and at most {high:g}'}{kept}"


def at_published_step(record: Record) -> Estimate | CurvePoint:
    """Our score after the published number of inner steps (``paper.step``; None: all steps), in the published metric.

    Raises:
        UserError: the run's adaptation curve does not reach that step.
    """
    step, test = record.paper.step if record.paper else None, record.test
    metric = published_metric(record.paper, test)
    if metric != test.metric:
        statistic = test.others[metric.name]
        return Estimate(statistic.mean, statistic.half_width)
    if step is None:
        return Estimate(test.mean, test.half_width)
    points = [point for point in test.curve if point.step == step]
    if not points:
        steps = ", ".join(str(point.step) for point in test.curve)
        raise UserError(f"paper.step={step!r}: the run's adaptation curve has the steps {steps}; change paper.step")
    return points[0]


def compare(record: Record, measured: float | None = None) -> PaperComparison | None:
    """Compare a record with its paper; None if it has no paper block, or one without a number for this setting.

    Args:
        record: the record of a run.
        measured: our mean; None for the record's own. Given for the mean over several seeds.

    Raises:
        UserError: the paper block is wrong, see :func:`check_paper`.
    """
    if record.paper is None or record.paper.published is None:
        return None
    metric = published_metric(record.paper, record.test)
    check_paper(record.paper, metric)
    ours = at_published_step(record).mean if measured is None else measured
    return PaperComparison(record.paper, metric, ours)
