"""Data that changes under a run, and runs that are used from another working folder."""

import json
import random
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.evaluation.finished_run import load_run
from metaloop.records.reading import read_record

WORDS = ("red", "green", "blue", "north", "south", "east", "west", "one", "two", "three", "four", "five")
RUN = (
    "train", "dataset=text_files", "dataset.files=notes.csv", "dataset.length=8", "model=tfidf", "algorithm=prototypes_cosine",
    "episode.ways=2", "episode.queries=2", "outer.meta_batch=2", "trainer.max_steps=2", "validation.every=1",
    "validation.episodes=2", "evaluation.episodes=4", "hydra.run.dir=run", "hydra/job_logging=none", "name=notes",
)  # fmt: skip


def write_notes(path: Path, classes: int) -> None:
    """Write eight texts of each class, the words of which are its own and shared ones."""
    draw = random.Random(0)
    lines = [
        f"{WORDS[number]} {WORDS[number]} {draw.choice(WORDS)} note {k},{WORDS[number]}"
        for number in range(classes)
        for k in range(8)
    ]
    path.write_text("\n".join(["text,label", *lines]) + "\n")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a finished run on notes.csv."""
    folder = tmp_path / "desk"
    folder.mkdir()
    write_notes(folder / "notes.csv", 9)
    monkeypatch.chdir(folder)
    assert main(list(RUN)) == 0
    return folder


def trained_and_tested(folder: Path) -> tuple[set[str], set[str]]:
    contents = json.loads((folder / "run" / "data.json").read_text())
    return set(contents["train"]["classes"]), set(contents["test"]["classes"])


def test_B2_a_new_class_is_refused_or_left_out(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, tested = trained_and_tested(desk)
    assert len(trained | tested) < 9
    assert not trained & tested
    before = read_record(desk / "run").test
    write_notes(desk / "notes.csv", 12)  # divides the classes anew
    for command in (
        ["evaluate", "run=run"],
        ["inspect", "run"],
        ["predict", "run=run", "support=notes.csv", "query=notes.csv"],
    ):
        assert main(command) == 2
        message = capsys.readouterr().err
        assert "has changed since this run started" in message
        assert "new classes" in message
        assert "data_changed=allow" in message
    assert main(["evaluate", "run=run", "data_changed=allow"]) == 0
    (again,) = (read_record(path.parent) for path in desk.glob("run/evaluations/*/record.json"))
    assert again.test.mean == before.mean  # the same classes with the same texts
    assert main(["evaluate", "run=run", "data_changed=yes"]) == 2


def test_B2_edited_texts_are_noticed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = desk / "notes.csv"
    path.write_text(path.read_text().replace("note 3", "edited"))
    assert main(["evaluate", "run=run"]) == 2
    assert "the same classes with other examples" in capsys.readouterr().err


def test_B2_a_run_does_not_go_on_with_other_data(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained_and_tested(desk)
    (desk / "run" / "record.json").unlink()  # as if it had been stopped
    write_notes(desk / "notes.csv", 12)
    assert main(["train", "resume=run"]) == 2
    assert "its train split has" in capsys.readouterr().err
    assert main(["train", "resume=run", "data_changed=allow"]) == 0
    assert trained_and_tested(desk) == before


def test_B2_a_test_on_trained_classes_is_said(desk: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["evaluate", "run=run", "dataset.split_seed=1"]) == 0
    assert "have the name of a class that the run was trained on" in caplog.text


def test_B3_later_evaluations_and_comparisons_find_them_too(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notes(desk / "more.csv", 12)
    assert main(["evaluate", "run=run", "dataset.files=more.csv"]) == 0  # of this folder
    (more,) = desk.glob("run/evaluations/*/record.json")
    other = desk.parent / "other"
    other.mkdir()
    write_notes(other / "notes.csv", 10)
    monkeypatch.chdir(other)
    assert main(["compare", str(desk / "run"), str(desk / "run"), "--output", "page"]) == 0
    assert "has changed" not in capsys.readouterr().err
    assert read_record(more.parent).config["dataset"]["data_dir"] == str(desk)


def test_B3_a_run_finds_its_files_from_everywhere(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = desk.parent / "other"
    other.mkdir()
    write_notes(other / "notes.csv", 12)  # another file of the same name
    monkeypatch.chdir(other)
    assert load_run(desk / "run").config["dataset"]["data_dir"] == str(desk)
    assert main(["evaluate", f"run={desk / 'run'}"]) == 0
    (again,) = (read_record(path.parent) for path in desk.glob("run/evaluations/*/record.json"))
    assert again.test.mean == read_record(desk / "run").test.mean


def test_B2_a_sweep_says_and_takes_the_same_word(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    swept = ["train", "-m", *RUN[1:-3], "seed=0", "hydra.sweep.dir=swept"]
    assert main(swept) == 0
    (directory,) = (path.parent for path in desk.glob("swept/*/record.json"))
    (directory / "record.json").unlink()  # as if it had been stopped
    write_notes(desk / "notes.csv", 12)
    assert main([*swept, "data_changed=allow"]) == 0
    assert (directory / "record.json").exists()
    assert "data_changed" not in (directory / "config.yaml").read_text()
