"""Real tables as whole episodes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metaloop.data.philox import Stream
from metaloop.data.tables.table_reading import ADBENCH_FOLDER, DataTable, read_table
from metaloop.data.tables.whole_tables import WholeTables, known_classes
from metaloop.errors import UserError
from metaloop.problems.regression import Regression
from metaloop.problems.table_classification import TableClassification
from metaloop.types import EpisodeSpec

SPEC = EpisodeSpec(ways=3, shots=10, queries=5)
STREAM = Stream(0, "test")


def table(rows: int, name: str = "made", share: float = 0.1) -> DataTable:
    """A table whose first column is the row's number and whose class 1 has the given share of the rows."""
    number = np.arange(rows, dtype=np.float64)
    return DataTable(name, np.column_stack([number, number**2]), (number < share * rows).astype(np.int64), 2)


def whole(*tables: DataTable) -> WholeTables:
    return WholeTables(tables, TableClassification(), 4)


def test_a_table_is_split_without_overlap_and_with_classes_in_proportion() -> None:
    tasks = whole(table(40)).draw(STREAM, torch.arange(5), SPEC)
    assert tasks.support.mask is not None
    assert tasks.support.mask.sum(1).tolist() == [27] * 5  # 40 rows in the proportion of 30 to 15
    for task in range(5):
        support, query = (set(x[task, :, 0, 0].tolist()) for x in (tasks.support.x[:, :27], tasks.query.x[:, :13]))
        assert len(support) == 27
        assert not support & query
        assert tasks.support.y[task, :27].sum() in (2, 3)  # of 4
    assert not torch.equal(tasks.support.x[0], tasks.support.x[1])


def test_all_tables_come_equally_often() -> None:
    tasks = whole(table(60, share=0.5), table(60, share=0.1)).draw(STREAM, torch.arange(4), SPEC)
    assert (tasks.support.y.sum(1) > 10).tolist() == [True, False, True, False]


def test_narrow_tables_have_unknown_columns() -> None:
    tasks = whole(table(60)).draw(STREAM, torch.arange(1), SPEC)
    assert tasks.support.x[0, :, 1].amax(0).tolist() == [1, 1, 0, 0]
    assert tasks.support.x[0, :, 0, 2:].abs().max() == 0


def test_of_a_long_table_evenly_spaced_rows_are_used() -> None:
    tasks = whole(table(1_000_000, share=0.01))
    contents = tasks.contents()
    assert contents is not None
    rows = tasks._rows[0]
    assert 10_000 <= len(rows) <= 10_002
    assert rows[:, 0].mean().item() == pytest.approx(0.01, abs=1e-4)
    assert rows[:, 1].max() > 990_000


def test_queries_of_unknown_classes_are_told() -> None:
    support, query = torch.tensor([[0, 2, 1]]), torch.tensor([[1, 2, 0]])
    assert known_classes(support, torch.tensor([[True, True, False]]), query, 3).tolist() == [[False, True, True]]
    assert known_classes(support, None, query, 3).all()


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"dataset.columns=1: table made has 2 features"):
        WholeTables([table(9)], TableClassification(), 1)
    with pytest.raises(UserError, match=r"targets of made are classes, so problem=regression"):
        WholeTables([table(9)], Regression(), 4)
    with pytest.raises(UserError, match=r"episode.ways=1: table made has 2 classes"):
        whole(table(9)).check(EpisodeSpec(ways=1, shots=1, queries=1))
    with pytest.raises(UserError, match=r"made has 3 rows; at least 4"):
        whole(table(3)).check(SPEC)


def test_regression_targets_are_standardized_by_the_support_set() -> None:
    values = DataTable("values", np.random.default_rng(0).normal(5, 3, (60, 2)), np.linspace(100, 200, 60), None)
    tasks = WholeTables([values], Regression(), 2).draw(STREAM, torch.arange(1), EpisodeSpec(ways=1, shots=30, queries=30))
    assert tasks.support.y.mean().abs() < 1e-5
    assert tasks.query.y.abs().max() < 3


def adbench(tmp_path: Path, **arrays: np.ndarray) -> str:
    folder = tmp_path / ADBENCH_FOLDER
    folder.mkdir()
    np.savez(folder / "29_Pima.npz", **arrays)  # type: ignore[arg-type]
    return str(tmp_path)


def test_a_table_of_adbench_is_read_by_its_name(tmp_path: Path) -> None:
    data = adbench(tmp_path, X=np.ones((5, 3)), y=np.array([0, 1, 0, 0, 1]))
    read = read_table("adbench:Pima", data)
    assert read.x.shape == (5, 3)
    assert (read.y.tolist(), read.classes) == ([0, 1, 0, 0, 1], 2)
    with pytest.raises(UserError, match=r"no table 'pima' in .*: it has Pima"):
        read_table("adbench:pima", data)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.ones((5, 3))}, "broken"),
        ({"X": np.ones((5, 3)), "y": np.arange(5)}, "no table with classes 0 and 1"),
        ({"X": np.array([{}], dtype=object), "y": np.zeros(1)}, "broken"),  # pickled: nothing of it is executed
    ],
)
def test_a_broken_table_of_adbench_is_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_table("adbench:Pima", adbench(tmp_path, **arrays))


def test_without_the_files_of_adbench_the_remedy_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"put ADBench's folder Classical there"):
        read_table("adbench:Pima", str(tmp_path))
