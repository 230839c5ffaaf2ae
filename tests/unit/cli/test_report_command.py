"""The options of ``metaloop report`` on runs whose values are known."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metaloop.cli.report import _choice
from metaloop.errors import UserError
from metaloop.records.runs import Run


def _run(rate: float, flag: bool, data: str) -> Run:
    record: Any = SimpleNamespace(choices={"dataset": data}, config={"rate": rate, "flag": flag})
    return Run(Path(json.dumps([rate, flag, data])), record, {}, {})


RUNS = [_run(0.001, True, "glyphs"), _run(0.1, False, "glyphs"), _run(0.1, True, "a,b")]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], [0, 1, 2]),
        (["rate=1e-3"], [0]),
        (["rate=0.001,0.1"], [0, 1, 2]),
        (["flag=true"], [0, 2]),
        (["flag=no"], [1]),
        (["dataset=a,b"], [2]),
        (["flag=yes", "rate=0.10"], [2]),
    ],
)
def test_where_takes_values_as_shown_and_as_configured(conditions: list[str], expected: list[int]) -> None:
    assert _choice(conditions)(RUNS) == [RUNS[number] for number in expected]


@pytest.mark.parametrize(
    ("condition", "match"),
    [
        ("rate=0.2", r"--where rate=0\.2 fits none of 3 runs; rate is one of 0\.001, 0\.1$"),
        ("dataset=glyph", "dataset is one of glyphs, a,b"),
        ("rate", "--where rate: write KEY=VALUE"),
    ],
)
def test_where_says_what_there_is(condition: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        _choice([condition])(RUNS)
