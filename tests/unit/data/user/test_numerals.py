"""Numbers in users' files are what a person would read."""

import json
from pathlib import Path

import pytest
import torch

from metaloop.data.tables.tabular import Tabular
from metaloop.data.user.numerals import finite_number, is_missing
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import Columns, user_task
from metaloop.errors import UserError
from metaloop.problems.regression import Regression

NUMBERS = ["1", "-2.5", "+3", ".5", "7.", "1e3", "1E-3", " 4 ", "0010", 3, 2.5, -0.0]
NO_NUMBERS = [
    "1_3",
    "infinity",
    "inf",
    "-Infinity",
    "１２",
    "٣",
    "1e999",
    "0x10",
    "1,5",
    "1 000",
    "--1",
    "e5",
    ".",
    True,
    [],
    10**400,
]
MISSING = ["", " ", "nan", "NaN", "NA", "N/A", "null", None, float("nan")]


def test_B7_numbers_are_read_as_people_write_them() -> None:
    for value in NUMBERS:
        assert finite_number(value) == float(value)
        assert not is_missing(value)
    for value in NO_NUMBERS:
        assert finite_number(value) is None
        assert not is_missing(value)
    for value in MISSING:
        assert finite_number(value) is None
        assert is_missing(value)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_B7_a_code_in_a_column_of_numbers_is_refused_by_line(value: object, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"a": 1, "b": 2, "label": "x"}, {"a": value, "b": 1, "label": "y"}]))
    with pytest.raises(UserError, match=r"line 2: column 'a' must hold a finite number such as 12, -0\.5 or 1e-3, or nothing"):
        read_user_table(path, Columns(), 3, labelled=True)


def test_B7_missing_numbers_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{"a": value, "b": 1, "label": "x"} for value in MISSING]))
    found = read_user_table(path, Columns(), 2, labelled=True).inputs
    assert isinstance(found, torch.Tensor)
    assert found[:, 0].isnan().all()


@pytest.mark.parametrize("target", ["1_3", "inf", "nan", "１２"])
def test_B7_a_code_is_no_target_either(target: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"a,b,label\n0.1,1,10\n0.2,2,{target}\n")
    tables = {split: ["diabetes"] for split in ("train", "validation", "test")}
    rows = Tabular(Regression(), tables, "").read_user_file(path, Columns(), (2, 4), labelled=True)
    with pytest.raises(UserError, match=r"line 3: the target of a regression must be a finite number .*, not '" + target):
        user_task(rows, Regression())
