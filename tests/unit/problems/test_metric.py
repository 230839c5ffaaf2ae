"""A metric writes scores, intervals and differences in its own unit, notation and sign."""

import json
import math
from dataclasses import replace

import pytest

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY, LOG_LIKELIHOOD, MEAN_SQUARED_ERROR, Metric

RETURN = Metric("return", "return", digits=1)
DOLLARS = Metric("cost", "cost", unit="dollars", digits=2, higher_is_better=False, bounds=(0.0, None))
SECONDS = Metric("time", "time", unit="s", digits=0, higher_is_better=False, bounds=(0.0, None))


@pytest.mark.parametrize(
    ("metric", "mean", "half_width", "text"),
    [
        (ACCURACY, 0.97312, 0.00418, "97.31 ± 0.42"),
        (ACCURACY, 1.0, 0.0, "100.00 ± 0.00"),
        (ACCURACY, 0.0, None, "0.00"),
        (ACCURACY, 0.5, 6.3531, "50.00 ± 50.00"),  # E17
        (ACCURACY, 0.98, 0.03, "98.00 ± 3.00"),
        (ACCURACY, 0.25, 0.9, "25.00 ± 75.00"),
        (ACCURACY, 1e-5, 1e-6, "0.00 ± 0.00"),
        (MEAN_SQUARED_ERROR, 0.57312, 0.0003, "0.5731 ± 0.0003"),
        (MEAN_SQUARED_ERROR, 0.00012345, 0.00001, "1.23e-04 ± 1.00e-05"),
        (MEAN_SQUARED_ERROR, 0.0, 0.0, "0.0000 ± 0.0000"),
        (MEAN_SQUARED_ERROR, 0.5, math.inf, "0.5000 ± diverged"),
        (MEAN_SQUARED_ERROR, math.inf, None, "diverged"),
        (ACCURACY, math.nan, 0.1, "diverged"),
        (ACCURACY, None, None, "–"),
        (LOG_LIKELIHOOD, -1.7066, 0.9352, "−1.7066 ± 0.9352"),
        (LOG_LIKELIHOOD, -0.00002, 0.00001, "−2.00e-05 ± 1.00e-05"),
        (RETURN, -312.5, 4.0, "−312.5 ± 4.0"),
        (RETURN, -0.04, 0.01, "0.0 ± 0.0"),
        (RETURN, 12345.67, 0.25, "12345.7 ± 0.2"),
        (DOLLARS, 0.05, 0.01, "0.05 ± 0.01"),
        (SECONDS, 7.0, 1.0, "7 ± 1"),
        (SECONDS, 0.3, None, "0"),
    ],
)
def test_scores_with_their_intervals(metric: Metric, mean: float | None, half_width: float | None, text: str) -> None:
    assert metric.interval(mean, half_width) == text


def test_differences_have_a_sign_unless_they_round_to_nothing() -> None:
    assert [ACCURACY.difference(value) for value in (0.0123, -0.0123, 0.00001, -0.00001, 0.0, None)] == [
        "+1.23", "−1.23", "0.00", "0.00", "0.00", "–",
    ]  # fmt: skip
    assert MEAN_SQUARED_ERROR.difference(-0.5) == "−0.5000"
    assert MEAN_SQUARED_ERROR.difference(-2e-5) == "−2.00e-05"
    assert RETURN.difference(-312.5) == "−312.5"
    assert RETURN.difference(math.nan) == "diverged"


def test_units_are_shown_once() -> None:
    assert (ACCURACY.heading, MEAN_SQUARED_ERROR.heading, DOLLARS.heading) == (
        "accuracy (%)", "mean squared error", "cost (dollars)",
    )  # fmt: skip
    assert (ACCURACY.difference_unit, RETURN.difference_unit, DOLLARS.difference_unit) == ("points", "", "dollars")
    assert DOLLARS.with_unit(DOLLARS.number(4.0)) == "4.00 dollars"
    assert RETURN.with_unit(RETURN.number(4.0)) == "4.0"
    assert (ACCURACY.shown(0.5), RETURN.shown(0.5)) == (50.0, 0.5)


def test_the_better_score_is_the_higher_or_the_lower() -> None:
    assert RETURN.better(-1.0, -2.0)
    assert not RETURN.better(-2.0, -2.0)
    assert DOLLARS.better(1.0, 2.0)
    assert not DOLLARS.better(1.0, math.nan)
    assert (RETURN.sign, DOLLARS.sign) == (1.0, -1.0)


def test_possible_scores() -> None:
    assert [ACCURACY.in_bounds(value) for value in (-0.1, 0.0, 1.0, 1.1)] == [False, True, True, False]
    assert [DOLLARS.in_bounds(value) for value in (-0.1, 1e9)] == [False, True]
    assert RETURN.in_bounds(-1e9)


@pytest.mark.parametrize("metric", [ACCURACY, MEAN_SQUARED_ERROR, LOG_LIKELIHOOD, RETURN, DOLLARS, SECONDS])
def test_a_record_holds_all_of_it(metric: Metric) -> None:
    assert Metric.from_dict(json.loads(json.dumps(metric.as_dict()))) == metric


@pytest.mark.parametrize("block", ["accuracy", {}, ACCURACY.as_dict() | {"percent": True}, ACCURACY.as_dict() | {"scale": "x"}])
def test_what_is_no_metric_is_refused(block: object) -> None:
    with pytest.raises(UserError, match="metric"):
        Metric.from_dict(block)


@pytest.mark.parametrize(
    "changes", [{"name": ""}, {"title": ""}, {"scale": 0.0}, {"scale": math.inf}, {"digits": -1}, {"bounds": (1.0, 1.0)}]
)
def test_wrong_fields_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(changes))):
        replace(ACCURACY, **changes)  # type: ignore[arg-type]
