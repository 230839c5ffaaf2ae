"""``metaloop new learner NAME``: what it writes trains, is tested, and needs no PYTHONPATH."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaloop.cli.main import main
from small_runs import QUIET

SMALL = ["dataset=glyphs", "episode.queries=2", "model=mlp", "model.hidden=[8]", "trainer.max_steps=2", "validation.every=2"]
EPISODES = ["validation.episodes=2", "evaluation.episodes=4"]


@pytest.fixture(autouse=True)
def _forget_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.delitem(sys.modules, "my_learner", raising=False)


def test_F17_the_skeleton_trains_and_passes_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "learner", "my_learner"]) == 0
    words = ["train", "--config-dir", "conf", "algorithm=my_learner", *SMALL, *EPISODES, *QUIET, "hydra.run.dir=run"]
    assert main(words) == 0
    assert main(["evaluate", "run=run", "--config-dir=conf", "evaluation.episodes=6"]) == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_learner.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["My", "class", "a-b", "1a", "metaloop"])
def test_F17_a_name_must_be_importable(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "learner", name]) == 2
    assert "such as my_learner" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_F17_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_mine.py").write_text("mine")
    assert main(["new", "learner", "mine"]) == 2
    assert main(["new", "model", "other"]) == 2
    assert "test_mine.py exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
