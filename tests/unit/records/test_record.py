"""What a record says of where and by what a run was made."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.workers import Workers
from metaloop.records import record
from metaloop.records.record import git_state, hardware, peak_memory, versions, write_csv, write_record
from metaloop.types import Examples, Params, Tasks


def test_a_record_is_json_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"a": 1.5, "b": [None, "é"]})
    assert json.loads(path.read_text()) == {"a": 1.5, "b": [None, "é"]}
    with pytest.raises(TypeError):
        write_record(path, {"a": object()})
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


def test_the_commit_and_whether_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr(record, "__file__", str(tmp_path / "record.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None
    git("init")
    (tmp_path / "record.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "notes").write_text("not tracked")
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "record.py").write_text("2")
    assert git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": True}


def test_versions_and_hardware() -> None:
    assert {"python", "torch", "numpy", "metaloop"} <= set(versions())
    found = hardware(2)
    assert found["ranks"] == 2
    assert found["cores"] >= 1
    assert found["cpu"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what its processes took")
def test_peak_memory_counts_the_processes_that_run_tasks() -> None:
    alone = peak_memory(torch.device("cpu"))
    strategy = Workers(processes=2)
    examples = Examples(torch.ones(2, 1), torch.ones(2, 1))
    try:
        strategy.mean_of_gradients(own, {"w": torch.ones(1)}, Tasks(examples, examples, torch.arange(2)))
        assert peak_memory(torch.device("cpu")) > alone + 2**26  # a process with torch in it
    finally:
        strategy.close()
    assert peak_memory(torch.device("cpu")) < alone + 2**26


def own(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
    return {"w": meta["w"]}, {"x": query.x}
