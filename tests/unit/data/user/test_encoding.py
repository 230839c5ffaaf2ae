"""Columns of a user's table become numbers by what they hold; the query's as the support set's."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.data.tables.tabular import Tabular
from metaloop.data.user.encoding import TableColumn, as_plain, from_plain, kind_of
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import Columns, UserRows, from_tensors, user_task
from metaloop.errors import UserError
from metaloop.problems.classification import Classification

KINDS: list[tuple[Any, str | None]] = [
    ("1e3", "number"),
    (4, "number"),
    (True, "truth"),
    ("FALSE", "truth"),
    ("2026-03-01", "date"),
    ("2026-03-01T14:30:05.5Z", "date"),
    ("2026-02-30", "category"),
    ("01.03.2026", "category"),
    ("red", "category"),
    ("1_3", "category"),
    ("", None),
    (None, None),
    ("NA", None),
    ("inf", "number"),
    (-math.inf, "number"),
]
ROWS = [
    {"size": 1, "hot": "true", "day": "2026-03-01", "color": "red", "shape": "round", "label": "x"},
    {"size": 2.5, "hot": "False", "day": "2026-03-02 12:00", "color": "blue", "shape": "long", "label": "y"},
    {"size": "", "hot": "", "day": "", "color": "", "shape": "", "label": "x"},
    {"size": 3, "hot": True, "day": "2026-03-01T02:00+02:00", "color": "green ", "shape": "round", "label": "y"},
]
nan = math.nan


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def read(path: Path, width: int = 8, **more: Any) -> UserRows:
    return read_user_table(path, Columns(**more), width, labelled=False)


def labelled(path: Path) -> UserRows:
    return read_user_table(path, Columns(), 8, labelled=True)


def numbers(rows: UserRows) -> torch.Tensor:
    assert isinstance(rows.inputs, torch.Tensor)
    return rows.inputs


@pytest.mark.parametrize(("cell", "kind"), KINDS)
def test_B14_a_cell_shows_the_kind_of_its_column(cell: Any, kind: str | None) -> None:
    assert kind_of(cell) == kind


def test_B14_columns_of_every_kind_are_encoded(tmp_path: Path) -> None:
    rows = read(written(tmp_path / "s.json", ROWS))
    assert rows.features == ("size", "hot", "day", "color=blue", "color=green", "color=red", "shape")
    day = 20513.0  # 2026-03-01
    expected = [
        [1, 1, day, 0, 0, 1, 1],
        [2.5, 0, day + 1.5, 1, 0, 0, 0],
        [nan] * 7,
        [3, 1, day, 0, 1, 0, 1],
    ]
    torch.testing.assert_close(numbers(rows)[:, :7], torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    assert numbers(rows)[:, 7].isnan().all()
    assert from_plain(json.loads(json.dumps(as_plain(rows.encoding)))) == rows.encoding


def test_B14_a_query_is_encoded_as_the_support_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    support = read(written(tmp_path / "s.json", ROWS))
    asked = [{"shape": "long", "color": "red", "day": "2026-03-01", "hot": False, "size": "2"}, {**ROWS[0], "color": "teal"}]
    query = read(written(tmp_path / "q.json", asked), encoding=support.encoding)
    assert query.features == support.features
    assert numbers(query)[0, :7].tolist() == [2, 0, 20513, 0, 0, 1, 0]
    assert numbers(query)[1, 3:6].isnan().all()
    message = "1 cells of column 'color' hold categories that the support set lacks ('teal'); they count as missing"
    assert caplog.messages == [f"{tmp_path / 'q.json'}: {message}"]
    with pytest.raises(
        UserError, match=r"line 1: column 'day' must hold a date such as .*, or nothing, not 'soon'.*ignore=day"
    ):
        read(written(tmp_path / "q.json", [{**ROWS[0], "day": "soon"}]), encoding=support.encoding)
    with pytest.raises(UserError, match="lacks 'size' and also has 'id': its columns must be those of the support set"):
        read(
            written(tmp_path / "q.json", [{"id": 1, **{k: v for k, v in ROWS[0].items() if k != "size"}}]),
            encoding=support.encoding,
        )


def test_B14_columns_are_left_out_and_codes_are_categories_if_one_says_so(tmp_path: Path) -> None:
    rows = [{"id": k, "code": code, "note": f"text {k}", "label": "x"} for k, code in enumerate(["1_3", 13, "1_3", 13] * 6)]
    path = written(tmp_path / "s.json", rows)
    with pytest.raises(UserError, match=r"column 'code' must hold a text, or nothing, not '13'.*categories=code"):
        read(path)
    with pytest.raises(UserError, match=r"column 'note' holds 24 different texts in 24 rows, .*ignore=note"):
        read(path, categories=["code"])
    found = read(path, categories=["code"], ignore=("id", "note"))
    assert found.features == ("code",)
    assert numbers(found)[:4, 0].tolist() == [1, 0, 1, 0]
    with pytest.raises(UserError, match=r"ignore=nte: no such column; did you mean note\?"):
        read(path, ignore=["nte"])


def test_B14_many_categories_are_places_in_a_narrow_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "s.json", ROWS)
    rows = read(path, width=5)
    assert rows.features == ("size", "hot", "day", "color", "shape")
    assert numbers(rows)[:, 3].tolist()[:2] == [2, 0]
    assert "categories are their places in alphabetical order, since the model of the run has 5 inputs" in caplog.text
    with pytest.raises(UserError, match="has 5 features, but the widest table of the run has 4: leave some out with ignore="):
        read(path, width=4)


@pytest.mark.parametrize("cell", [[1], {"a": 1}])
def test_B14_a_list_is_no_category(cell: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: column 'a' must hold a text, or nothing, not"):
        read(written(tmp_path / "s.json", [{"a": cell, "label": "x"}]))


def test_B14_a_kept_task_keeps_its_encoding(tmp_path: Path) -> None:
    task = user_task(read(written(tmp_path / "s.json", ROWS)), Classification())
    assert from_tensors(task.tensors()).encoding == task.encoding
    before = {name: value for name, value in task.tensors().items() if name != "encoding"}  # kept by an earlier version
    assert from_tensors(before).encoding[0] == TableColumn("size")
    data = Tabular(Classification(), {split: ["iris"] for split in ("train", "validation", "test")}, "")
    x, _, _ = data.user_inputs(task.inputs, None, task.mask, task.inputs)
    assert isinstance(x, torch.Tensor)
    assert x.isfinite().all()


def test_a_support_set_without_values_is_refused_and_one_of_equal_rows_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = written(tmp_path / "missing.json", [{"a": "", "label": number} for number in range(3)])
    with pytest.raises(UserError, match="all values of its 1 columns are missing"):
        user_task(labelled(missing), Classification())
    user_task(labelled(written(missing, [{"a": 1, "label": number} for number in range(3)])), Classification())
    assert "all rows have the same features" in caplog.text


def test_infinity_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "infinite.json", [{"a": "inf", "label": 0}, {"a": 2, "label": 1}])
    with pytest.raises(UserError, match=r"line 1: column 'a' must hold a finite number .*, not 'inf'"):
        read(path)
