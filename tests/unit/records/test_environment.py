"""Versions, hardware and commit of a run."""

import subprocess
from pathlib import Path

import pytest

from metaloop.records.code import git_state
from metaloop.records.environment import hardware, versions
from metaloop.records.schema import Git


def test_the_commit_and_whether_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    git("init")
    (tmp_path / "record.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    assert git_state(tmp_path) == Git(git("rev-parse", "HEAD"), dirty=False)
    (tmp_path / "notes").write_text("not tracked")
    assert git_state(tmp_path) == Git(git("rev-parse", "HEAD"), dirty=False)
    (tmp_path / "record.py").write_text("2")
    assert git_state(tmp_path) == Git(git("rev-parse", "HEAD"), dirty=True)


def test_versions_and_hardware() -> None:
    assert {"python", "torch", "numpy", "metaloop"} <= set(versions())
    found = hardware(2)
    assert found.ranks == 2
    assert (found.cores or 0) >= 1
    assert found.cpu
