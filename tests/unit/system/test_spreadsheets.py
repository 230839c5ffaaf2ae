"""A spreadsheet runs no cell of the CSV files that are written for it."""

import csv
from pathlib import Path
from typing import Any

import pytest

from metaloop.records.writing import write_csv
from metaloop.report.tables.results import to_csv
from metaloop.system.spreadsheets import safe_cell

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1", "-", '=HYPERLINK("x")', "-inf"]
OTHERS: list[Any] = ["-2", "+3.5e-7", "-.5", "a=1", "'=1", "", " =1 text", -2, -0.5, float("-inf"), None, True]


@pytest.mark.parametrize("value", FORMULAS)
def test_E17_a_formula_is_text(value: str) -> None:
    assert safe_cell(value) == f"'{value}"


@pytest.mark.parametrize("value", OTHERS)
def test_E17_numbers_and_other_texts_stay(value: Any) -> None:
    assert safe_cell(value) is value


def test_E17_every_table_is_written_so(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", {"=label": ["=1+1", "fine"], "score": [-0.5, 1.0]})
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["'=label", "score"], ["'=1+1", "-0.5"], ["fine", "1.0"]]
    assert to_csv(["name", "@score"], [["-x", -1.5]]) == "name,'@score\n'-x,-1.5\n"
