"""metrics.csv: what is written is read back; a resumed file equals an undisturbed one."""

import csv
from pathlib import Path

import pytest

from metaloop.errors import UserError
from metaloop.tracking.csv import CsvTracker
from tracked_runs import info, train


def test_csv_columns_grow_with_the_metrics(tmp_path: Path) -> None:
    tracker = CsvTracker()
    tracker.start(info(tmp_path))
    tracker.log({"a": 0.1}, 1)
    tracker.log({"b": float("nan"), "a": 1 / 3}, 2)
    tracker.log({"c, d": 7}, 3)
    with (tmp_path / "metrics.csv").open(newline="") as file:  # before finish: every row is flushed
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "a": "0.1", "b": "", "c, d": ""},
        {"step": "2", "a": repr(1 / 3), "b": "nan", "c, d": ""},
        {"step": "3", "a": "", "b": "", "c, d": "7.0"},
    ]
    tracker.finish(None, "failed")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("killed_at", [12, 19, 30])
@pytest.mark.parametrize("torn", ["", "35", "35,0.02857142", "35,0.02857142857142857,3.5,"])
def test_a_resumed_csv_equals_an_undisturbed_one(killed_at: int, torn: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    train(CsvTracker(), tmp_path / "whole", 5, 40)
    train(CsvTracker(), tmp_path / "killed", 5, killed_at)
    path = tmp_path / "killed" / "metrics.csv"
    path.write_text(path.read_text() + torn)
    train(CsvTracker(), tmp_path / "killed", 15, 40, resumed_step=10)
    assert path.read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


def test_a_run_that_starts_over_starts_an_empty_csv(tmp_path: Path) -> None:
    train(CsvTracker(), tmp_path, 5, 20)
    train(CsvTracker(), tmp_path, 5, 10)
    assert [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == [
        "step",
        "5",
        "10",
        "10",
    ]


@pytest.mark.parametrize("line", ["5", "x,1.0", ""])
def test_a_damaged_csv_is_not_gone_on_with(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(f"step,a\n{line}\n10,2.0\n")
    with pytest.raises(UserError, match="line 2 is damaged"):
        CsvTracker().start(info(tmp_path, 10))
