"""Tables of a user's own as tasks of a training."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.config.data_paths import with_absolute_paths
from metaloop.data.copies import Copies
from metaloop.data.episodes import Episodes
from metaloop.data.philox import Stream
from metaloop.data.tables.tabular import Tabular, TabularTasks
from metaloop.data.user.tasks import Columns, user_task
from metaloop.errors import UserError
from metaloop.problems.classification import Classification
from metaloop.problems.regression import Regression
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec

SPLITS = ("train", "validation", "test")
HEADER = ["id", "size", "color", "day", "kind"]


def table(path: Path, rows: int = 30, kinds: str = "xyz", start: int = 0) -> str:
    """A table whose color and day show the kind."""
    content = []
    for k in range(start, start + rows):
        kind = k % len(kinds)
        content.append([f"id{k}", k / 10, ["red", "blue", "green"][kind], f"2026-0{1 + kind}-1{k % 9}", kinds[kind]])
    return write(path, [HEADER, *content])


def write(path: Path, rows: Sequence[Sequence[Any]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def opened(problem: Any, tables: dict[str, list[str]], **more: Any) -> Tabular:
    return Tabular(problem, tables, "", **({"label": "kind", "ignore": ["id"]} | more))


def same(folder: Path) -> dict[str, list[str]]:
    return {split: [table(folder / f"{split}.csv", start=7 * k)] for k, split in enumerate(SPLITS)}


def test_B14_own_tables_are_tasks_with_encoded_columns(tmp_path: Path) -> None:
    data = opened(Classification(), {**same(tmp_path), "validation": ["iris"]})
    tasks = data.split("test")
    assert tasks.input_shape == (2, 5)  # size, three colors, day
    assert tasks.num_classes == 3
    drawn = Episodes(tasks, EpisodeSpec(2, 3, 4), Stream(0, "test")).tasks(torch.arange(50))
    assert isinstance(drawn.support.x, torch.Tensor)
    assert isinstance(drawn.query.x, torch.Tensor)
    nearest = torch.cdist(drawn.query.x.flatten(2), drawn.support.x.flatten(2)).argmin(-1)
    assert (drawn.support.y.gather(1, nearest) == drawn.query.y).float().mean() > 0.95
    assert data.counts()["test"] == ExampleCounts(30, repeated=0, contradictory=0)


def test_B14_training_and_prediction_encode_a_table_alike(tmp_path: Path) -> None:
    tables = same(tmp_path)
    data = opened(Classification(), tables)
    rows = data.split("test")
    read = data.read_user_file(Path(tables["test"][0]), Columns(label="kind", ignore=["id"]), rows.input_shape, labelled=True)
    task = user_task(read, Classification())
    assert task.classes == ("x", "y", "z")
    assert isinstance(task.inputs, torch.Tensor)
    assert torch.equal(task.inputs[0], rows.rows[:, 1:])
    assert torch.equal(task.y[0].double(), rows.rows[:, 0])


def test_B14_targets_of_own_tables_are_numbers(tmp_path: Path) -> None:
    tables = {split: [table(tmp_path / f"{split}.csv")] for split in SPLITS}
    data = opened(Regression(), tables, label="size", ignore=["id", "day"])
    assert data.split("train").rows[:, 0].tolist() == [k / 10 for k in range(30)]
    with pytest.raises(UserError, match=r"train\.csv: line 2: the target of a regression must be a finite number .* 'x'"):
        opened(Regression(), tables).split("train")


def test_B14_mistakes_name_the_key_of_the_config(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tables = same(tmp_path)
    with pytest.raises(UserError, match=r"column 'id' holds 30 different texts .*dataset\.ignore=id, or .*\.categories=id"):
        opened(Classification(), tables, ignore=[]).split("train")
    with pytest.raises(UserError, match=r"no column 'label'; set dataset\.label= to one of 'id', 'size'"):
        opened(Classification(), tables, label="label").split("train")
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        opened(Classification(), {**tables, "test": [str(tmp_path / "none.csv")]}).split("train")
    with pytest.raises(UserError, match=r"'mine' must be one of iris, .*, or your own \.csv"):
        opened(Classification(), {**tables, "test": ["mine"]}).split("train")
    write(tmp_path / "bare.csv", [["size", "kind"], [1, "x"], [2, ""]])
    with pytest.raises(UserError, match=r"bare\.csv: line 3 has no label"):
        opened(Classification(), {**tables, "test": [str(tmp_path / "bare.csv")]}).split("train")
    assert "bare.csv: dataset.ignore=id: no such column" in caplog.text  # another table may have it


def test_B4_equal_rows_of_own_tables_are_kept_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [[k % 7, "xy"[k % 7 % 2]] for k in range(70)]
    tables = {split: [write(tmp_path / f"{split}.csv", [["n", "kind"], *rows])] for split in SPLITS}
    data = opened(Classification(), tables, ignore=[])
    spec = EpisodeSpec(2, 1, 10)

    def shared(tasks: TabularTasks) -> bool:
        drawn = Episodes(tasks, spec, Stream(0, "train")).tasks(torch.arange(40))
        assert isinstance(drawn.support.x, torch.Tensor)
        assert isinstance(drawn.query.x, torch.Tensor)
        return bool((drawn.support.x[:, :, None] == drawn.query.x[:, None]).flatten(3).all(-1).any())

    assert isinstance(data.split("train").copies, Copies)
    assert not shared(data.split("train").to("cpu"))
    assert shared(opened(Classification(), tables, ignore=[], repeats="anywhere").split("train"))
    assert "189 of 210 rows repeat another of their class; copies are never in both" in caplog.text
    with pytest.raises(UserError, match=r"episode\.queries=25.*class .* dataset\.repeats=anywhere"):
        data.split("train").check(EpisodeSpec(2, 1, 25))


def test_B14_a_run_finds_its_tables_from_another_folder(tmp_path: Path) -> None:
    table(tmp_path / "mine.csv")
    (tmp_path / "iris").mkdir()
    config = {"dataset": {"tables": {"train": ["mine.csv", "iris", "none.csv"]}, "data_dir": "nowhere"}}
    placed = with_absolute_paths(config, str(tmp_path))["dataset"]
    assert placed == {"tables": {"train": [str(tmp_path / "mine.csv"), "iris", "none.csv"]}, "data_dir": "nowhere"}
