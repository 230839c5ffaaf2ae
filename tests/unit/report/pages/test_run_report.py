"""The report of one run."""

from pathlib import Path
from typing import Any

import pytest
from made_runs import MakeRun

from metaloop.errors import UserError
from metaloop.report.pages.run_report import write_run_report
from metaloop.system.files import write_atomically


def test_pictures_and_a_page_with_everything(make_run: MakeRun, paper: dict[str, Any]) -> None:
    directory = make_run("a", paper=paper, status="stopped")
    files = write_run_report(directory)
    assert [file.name for file in files] == ["adaptation.png", "learning.png", "episode.png", "index.html"]
    assert sorted(file.name for file in (directory / "report").iterdir()) == sorted(file.name for file in files)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[:-1])
    page = files[-1].read_text()
    assert page.count("<picture>") == 3
    for text in (
        "stopped before its last step", "95 % interval over 60 meta-test episodes", "nearest neighbour in pixels",
        "98.70 ± 0.40 [S]", "Adam&#39;s step size", "macro F1", "algorithm.rule.rate", "metaloop train algorithm=maml",
        "1 min 35 s", "0123456789ab",
    ):  # fmt: skip
        assert text in page, text


def test_a_learner_without_inner_steps_and_pictures(make_run: MakeRun) -> None:
    curve = [{"step": 0, "mean": 0.9, "half_width": 0.1}]
    directory = make_run("a", samples=False, training=None, git=None, test={"curve": curve, "steps": None, "baseline": None})
    assert [file.name for file in write_run_report(directory)] == ["learning.png", "index.html"]


def test_written_twice_it_is_the_same(make_run: MakeRun) -> None:
    directory = make_run("a", samples=False)
    first = [file.read_bytes() for file in write_run_report(directory)]
    assert [file.read_bytes() for file in write_run_report(directory)] == first


def test_a_missing_file_is_named(make_run: MakeRun) -> None:
    directory = make_run("a")
    (directory / "episodes.csv").unlink()
    with pytest.raises(UserError, match=r"a/episodes\.csv"):
        write_run_report(directory)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "new" / "page.html", "old")
    assert path.stat().st_mode & 0o777 == 0o644

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    assert path.read_text() == "old"
