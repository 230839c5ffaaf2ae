"""Writing of JSON and CSV files."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_runs import MakeRun

from metaloop.records.reading import read_record
from metaloop.records.writing import record_as_dict, write_csv, write_json, write_record


def test_json_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"a": 1.5, "b": [None, "é"]})
    assert json.loads(path.read_text()) == {"a": 1.5, "b": [None, "é"]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text())["a"] == 1.5


def test_columns_become_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "e.csv", {"index": [0, 1], "score": [0.1, 1 / 3]})
    lines = (tmp_path / "e.csv").read_text().split()
    assert lines == ["index,score", "0,0.1", f"1,{1 / 3!r}"]
    with pytest.raises(ValueError, match="shorter"):
        write_csv(tmp_path / "e.csv", {"index": [0, 1], "score": [0.1]})
    assert (tmp_path / "e.csv").read_text().split() == lines


def test_a_table_is_utf8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def in_ascii(path: Path, mode: str = "r", **more: Any) -> Any:
        return real(path, mode, **({} if "b" in mode else {"encoding": "ascii"}) | more)

    monkeypatch.setattr(Path, "open", in_ascii)
    write_csv(tmp_path / "e.csv", {"text": ["日本"]})
    assert (tmp_path / "e.csv").read_bytes().decode("utf-8").split() == ["text", "日本"]


def test_a_record_is_written_as_it_is_read(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run("a")
    record = read_record(first)
    written = write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert json.loads(written.read_text()) == record_as_dict(record)
