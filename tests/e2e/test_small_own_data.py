"""README's commands for one's own texts and pictures, on 3 to 5 examples of each class."""

import json
from pathlib import Path

import pytest
from PIL import Image

from metaloop.cli.main import main
from metaloop.data.class_splits import by_shares
from metaloop.data.fitting import fitted_spec
from metaloop.data.images.class_division import divide
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec
from small_runs import QUIET, Blobs

SHORT = ("trainer.max_steps=1", "validation.every=1", "validation.episodes=2", "evaluation.episodes=4", *QUIET)
CLASSES = {"bills": 3, "parcels": 4, "accounts": 5, "pets": 3, "rooms": 4, "taxis": 5}


def few_texts(path: Path, classes: dict[str, int]) -> Path:
    rows = [f"{name} question {'abcde'[number]} please,{name}" for name, count in classes.items() for number in range(count)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def few_pictures(folder: Path, classes: dict[str, int]) -> Path:
    for shade, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (84, 84), (40 * shade, 50 * number, 9)).save(folder / name / f"{number}.png")
    return folder


def test_F10_own_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    few_texts(tmp_path / "mine.csv", CLASSES)
    words = ["dataset=text_files", "dataset.files=mine.csv", *SHORT]
    assert main(["train", *words, "hydra.run.dir=run"]) == 0
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "episode.ways is 2 instead of 5, episode.train.queries is 3 instead of 5, to fit the data" in said
    assert "episode.queries is 2 instead of 15" in said
    assert json.loads((tmp_path / "run" / "record.json").read_text())["test"]["setting"].startswith("2-way 1-shot")
    assert main(["evaluate", "run=run", "evaluation.episodes=6"]) == 0
    few_texts(tmp_path / "two.csv", {"taxis": 3, "pets": 4})  # the head was made for two ways
    assert main(["predict", "run=run", "support=two.csv", "query=two.csv"]) == 0


def test_F10_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few_pictures(tmp_path / "pictures", CLASSES)
    small = ["model.filters=4", "dataset.side=20", "algorithm/over_tasks=loop"]
    assert main(["train", "dataset=image_folder", "dataset.path=pictures", *small, *SHORT, "hydra.run.dir=run"]) == 0
    assert json.loads((tmp_path / "run" / "record.json").read_text())["test"]["setting"].startswith("2-way 1-shot")
    assert main(["evaluate", "run=run", "evaluation.episodes=6"]) == 0


def test_F10_too_few_classes_are_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few_texts(tmp_path / "mine.csv", dict(list(CLASSES.items())[:4]))
    assert main(["train", "dataset=text_files", "dataset.files=mine.csv", *SHORT]) == 2
    assert "each split needs two or more. metaloop predict adapts a finished run to few classes" in capsys.readouterr().err


def test_F10_chosen_sizes_are_not_changed_and_the_error_names_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few_texts(tmp_path / "mine.csv", CLASSES)
    words = ["train", "dataset=text_files", "dataset.files=mine.csv", *SHORT, "episode=2w5s"]
    assert main([*words, "episode.shots=1", "episode.queries=2", "episode.train.queries=7"]) == 2
    assert "episode.shots + episode.train.queries = 1 + 7 = 8" in capsys.readouterr().err


def test_F10_the_largest_episodes_that_exist_are_taken() -> None:
    split = Blobs(side=2, classes=4, drawings=6).split("train")
    spec, changes = fitted_spec([split], EpisodeSpec(5, 2, 15))
    assert (spec, len(changes)) == (EpisodeSpec(4, 2, 4), 1)
    assert fitted_spec([split], EpisodeSpec(3, 2, 3)) == (EpisodeSpec(3, 2, 3), [])
    assert fitted_spec([split], EpisodeSpec(3, 2, 3), most_ways=2)[0] == EpisodeSpec(2, 2, 3)
    with pytest.raises(UserError, match=r"episode.shots \+ episode.queries = 6 \+ 15 = 21"):
        fitted_spec([split], EpisodeSpec(3, 6, 15))


@pytest.mark.parametrize("count", range(6, 40))
def test_F10_each_split_of_six_classes_or_more_has_two(count: int) -> None:
    names = [f"{number:02d}" for number in range(count)]
    shares = {"train": 60.0, "validation": 20.0, "test": 20.0}
    for division in (by_shares(names, shares, 0, least=2), divide(names, shares, 0)):
        assert min(map(len, division.values())) >= 2
        assert sorted(name for part in division.values() for name in part) == names
    if min(map(len, by_shares(names, shares, 0).values())) >= 2:
        assert by_shares(names, shares, 0, least=2) == by_shares(names, shares, 0)
