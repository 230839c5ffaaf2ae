"""Dataclasses from JSON: what is read, and what is refused with file and key."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY, Metric
from metaloop.records.typed_json import decode


@dataclass(frozen=True)
class Inner:
    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    sure: bool
    metric: Metric
    size: int | tuple[int, int]
    curve: tuple[Inner, ...]
    others: Mapping[str, Inner]
    config: Mapping[str, Any]
    inner: Inner | None = None


WHOLE: dict[str, Any] = {
    "name": "a", "count": 3, "sure": True, "metric": ACCURACY.as_dict(), "size": [5, 20],
    "curve": [{"mean": 1, "half_width": None}], "others": {"loss": {"mean": 0.5, "half_width": 0.1}},
    "config": {"any": ["thing", {"at": None}]},
}  # fmt: skip


def test_every_kind_of_field_is_read_and_written_back() -> None:
    result = decode(Outer, WHOLE, "f.json")
    assert result.metric == ACCURACY
    assert result.size == (5, 20)
    assert result.curve == (Inner(1.0, None),)
    assert isinstance(result.curve[0].mean, float)
    assert result.others["loss"] == Inner(0.5, 0.1)
    assert result.inner is None
    assert decode(Outer, json.loads(json.dumps(asdict(result))), "f.json") == result


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 1}, "f.json: name is 1, expected str"),
        ({"count": True}, "f.json: count is True, expected int"),
        ({"count": 3.0}, "f.json: count is 3.0, expected int"),
        ({"sure": 1}, "f.json: sure is 1, expected bool"),
        ({"size": [5]}, r"f.json: size is \[5\], expected a list of 2"),
        ({"size": [5, "x"]}, r"f.json: size\[1\] is 'x', expected int"),
        ({"size": "all"}, "f.json: size is 'all', expected int"),
        ({"curve": {}}, "f.json: curve is {}, expected a list"),
        ({"curve": [{"mean": "x", "half_width": None}]}, r"f.json: curve\[0\].mean is 'x', expected float"),
        ({"curve": [{"mean": 1.0}]}, r"f.json: curve\[0\].half_width is missing"),
        ({"others": {"loss": 3}}, "f.json: others.loss is 3, expected a mapping"),
        ({"config": []}, r"f.json: config is \[\], expected a mapping"),
        (
            {"inner": {"mean": 1.0, "half_width": None, "sd": 2}},
            "f.json: inner.sd is an unknown key; known are mean, half_width",
        ),
        ({"metric": "accuracy"}, "f.json: metric: metric is 'accuracy'"),
        ({"metric": {**ACCURACY.as_dict(), "scale": 0}}, "f.json: metric: .*scale=0"),
    ],
)
def test_a_wrong_value_is_refused_with_file_and_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode(Outer, WHOLE | changes, "f.json")


def test_a_missing_key_and_a_wrong_top_are_refused() -> None:
    with pytest.raises(UserError, match=r"f\.json: count is missing"):
        decode(Outer, {key: value for key, value in WHOLE.items() if key != "count"}, "f.json")
    with pytest.raises(UserError, match=r"f.json: the content is \[\], expected a mapping"):
        decode(Outer, [], "f.json")
