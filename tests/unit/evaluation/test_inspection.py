"""``metaloop inspect`` on finished runs."""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from metaloop.cli.main import main
from small_runs import SMALL, described, rows, trained

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed."""
    return shutil.copytree(finished_run, tmp_path / "run")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_data_pictures_and_a_page_and_prints_the_conclusion(run: Path, capsys: Captured) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["inspect", str(run), "--episodes", "6"]) == 0
    said = capsys.readouterr().out
    assert "index.html" in said
    assert "CKA by layer" in said
    folder = run / "inspection"
    assert {"inspection.json", "inspection.npz", "index.html", "parts.png", "map.png"} <= set(files(folder))
    assert not [name for name in files(folder) if name.startswith(".")]
    assert {path: path.read_bytes() for path in before} == before
    found = json.loads((folder / "inspection.json").read_text())
    record = json.loads((run / "record.json").read_text())
    assert found["by_episode"]["all"] == [float(row["score"]) for row in rows(run / "episodes.csv")]
    assert found["by_episode"]["index"] == list(range(6))
    for point, expected in zip(found["score"], record["test"]["curve"], strict=True):
        assert (point["mean"], point["half_width"]) == pytest.approx((expected["mean"], expected["half_width"]))
    with np.load(folder / "inspection.npz") as points:
        assert points["before"].shape == points["after"].shape == (3 + 6, 2)


def test_done_again_it_is_the_same_and_takes_the_place_of_the_old(run: Path) -> None:
    assert main(["inspect", str(run), "--episodes", "3"]) == 0
    first = (run / "inspection" / "inspection.json").read_bytes()
    assert main(["inspect", str(run), "--episodes", "3"]) == 0
    assert (run / "inspection" / "inspection.json").read_bytes() == first
    assert main(["inspect", str(run), "--episodes", "2", "--steps", "3"]) == 0
    assert json.loads((run / "inspection" / "inspection.json").read_text())["points"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "overrides",
    [(*SMALL, "algorithm=prototypes"), (*SMALL, "algorithm=cavia"),
     ("name=small", "dataset=sinusoid", "episode=regression", "model=tiny", "algorithm/over_tasks=loop", "outer.meta_batch=2",
      "trainer.max_steps=2", "validation.every=2", "validation.episodes=2", "evaluation.episodes=2", "log_every=1")],
    ids=["prototypes", "cavia", "regression"],
)  # fmt: skip
def test_other_kinds_of_learners_have_a_page(overrides: tuple[str, ...], tmp_path: Path) -> None:
    trained(tmp_path, small=overrides)
    (tmp_path / "run.json").write_text(json.dumps(asdict(described(*overrides))))
    assert main(["inspect", str(tmp_path), "--episodes", "2"]) == 0
    assert "Not shown" in (tmp_path / "inspection" / "index.html").read_text()


def test_dropout_is_off_as_in_the_meta_test(tmp_path: Path) -> None:
    overrides = (*SMALL, "model._target_=small_runs.Dropping", "model.hidden=[32]")
    trained(tmp_path, small=overrides)
    (tmp_path / "run.json").write_text(json.dumps(asdict(described(*overrides))))
    assert main(["inspect", str(tmp_path), "--episodes", "6"]) == 0
    found = json.loads((tmp_path / "inspection" / "inspection.json").read_text())
    assert found["by_episode"]["all"] == [float(row["score"]) for row in rows(tmp_path / "episodes.csv")]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["nowhere"], "is no run directory"),
        (["RUN", "--episodes", "1"], "--episodes 1: must be at least 2"),
        (["RUN", "--episodes", "many"], "invalid int value"),
        (["RUN", "--steps", "0"], "--steps 0: must be at least 1"),
        (["RUN", "--step", "1"], "unrecognized arguments"),
        ([], "DIR"),
    ],
)
def test_a_users_mistake_is_named(argv: list[str], expected: str, finished_run: Path, capsys: Captured) -> None:
    assert main(["inspect", *(str(finished_run) if word == "RUN" else word for word in argv)]) == 2
    assert expected in capsys.readouterr().err
    assert not (finished_run / "inspection").exists()


def test_without_a_checkpoint_or_scikit_learn_nothing_is_written(
    run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    assert main(["inspect", str(run)]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    assert main(["inspect", str(run)]) == 2
    assert "metaloop[inspect]" in capsys.readouterr().err
    assert not (run / "inspection").exists()
