"""Folders that are named after splits: which names are recognized, and that training and prediction read them alike."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import write_zip

from metaloop.data.distribution import SPLITS
from metaloop.data.images.image_folder import ImageFolder
from metaloop.data.images.split_folders import Place, places
from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError
from picture_files import picture, write_folder

SHARES = {"train": 0.64, "validation": 0.16, "test": 0.2}


def files(*folders: str, each: int = 2) -> dict[str, bytes]:
    """Pictures of their own in each folder."""
    names = [f"{folder}/{number}.png" for folder in folders for number in range(each)]
    return {name: picture(mark) for mark, name in enumerate(names)}


def opened(path: Path, **more: Any) -> ImageFolder:
    given = {"classes": SHARES, "side": 4, "decoders": 0, "cache_dir": str(path.parent / "cache")} | more
    return ImageFolder(str(path), **given)


def splits(dataset: ImageFolder) -> dict[str, list[str]]:
    return {split: list(dataset.split(split).names) for split in SPLITS}


def read(folders: Sequence[str], rule: Any = "auto") -> list[Place]:
    return places([f"{folder}/1.png" for folder in folders], rule, UserError)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "valid", "Testing"),
        ("TRAIN", "Dev", "eval"),
        ("train_set", "validation_set", "test_set"),
        ("Training Images", "Validation Images", "Test Images"),
        ("images-train", "images-val", "images-test"),
        ("train2017", "val2017", "test2017"),
        ("trainset", "valset", "testset"),
        ("TrainingData", "ValidationData", "TestingData"),
        ("seg_train", "seg_valid", "seg_test"),
        ("01 train", "02 dev", "03 evaluation"),
        ("meta-train", "meta-val", "meta-test"),
    ],
)
@pytest.mark.parametrize("form", ["{}/{}", "own/{}/{}", "{}/images/{}", "a/{}/b/{}"])
def test_E9_usual_names_of_split_folders_at_any_level(names: tuple[str, str, str], form: str) -> None:
    wanted = [(split, f"{split}{number}") for split in SPLITS for number in range(2)]
    folder_of = dict(zip(SPLITS, names, strict=True))
    assert read([form.format(folder_of[split], label) for split, label in wanted]) == wanted


def test_E9_folders_of_splits_lie_inside_each_other_or_inside_the_classes() -> None:
    doubled = ["training_set/training_set/cats", "test_set/test_set/dogs"]
    assert read(doubled) == [("train", "cats"), ("test", "dogs")]
    assert read(["ant/train", "bee/train", "cat/test"]) == [("train", "ant"), ("train", "bee"), ("test", "cat")]
    assert read(["birds/train/koi", "fish/test/koi"]) == [("train", "koi"), ("test", "koi")]
    assert read(["archive1/Training/x", "archive1/Training/y", "archive2/Testing/x"])[::2] == [("train", "x"), ("test", "x")]
    assert read(["Training/images/x", "Training/images/y", "Testing/x", "Testing/z"])[::2] == [("train", "x"), ("test", "x")]
    assert read(["images_train/Greek/1", "images_train/Latin/1", "images_eval/Tibetan/1"])[2] == ("test", "Tibetan/1")


@pytest.mark.parametrize(
    "folders",
    [
        ["bus", "car", "train"],
        ["vehicles/train", "animals/cat"],
        ["vehicles/train", "vehicles/bus", "tests/pencil", "shapes/oval"],
        ["steam_train", "test_tube"],
        ["developer", "trainer", "valley"],
    ],
)
def test_E9_a_class_may_have_the_name_of_a_split(folders: list[str]) -> None:
    if folders[2:3] == ["tests/pencil"]:
        with pytest.raises(UserError, match=r"folder tests looks like a split, but shapes beside it does not.*split_folders="):
            read(folders)
        return
    assert read(folders) == [(None, folder) for folder in folders]
    assert read([f"{split}/{name}" for split in ("train", "test") for name in ("bus", "train")])[1] == ("train", "train")


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_B1_folders_of_splits_are_kept(tmp_path: Path, kind: str) -> None:
    content = files("own/Training/ant", "own/Training/bee", "own/valid/cat", "own/Testing/dog", "own/Testing/elk")
    path = write_folder(tmp_path / "own", content) if kind == "folder" else write_zip(tmp_path / "own.zip", content)
    wanted = {"train": ["ant", "bee"], "validation": ["cat"], "test": ["dog", "elk"]}
    assert splits(opened(path)) == splits(opened(path, split_seed=7)) == wanted
    rows = opened(path).read_user_file(path, Columns(), (3, 4, 4), labelled=True)
    assert sorted(set(filter(None, rows.labels))) == ["ant", "bee", "cat", "dog", "elk"]


def test_B1_a_class_in_two_splits_is_refused_and_can_be_merged(tmp_path: Path) -> None:
    names = ("ant", "bee", "cat", "dog")
    path = write_folder(tmp_path / "own", files(*(f"{split}/{name}" for split in ("train", "test") for name in names)))
    with pytest.raises(UserError, match=r"class 'ant' is in the folders of test and train.*dataset\.split_folders=merge"):
        opened(path).split("train")
    with pytest.raises(UserError, match="class 'ant' is in the folders of test and train"):
        opened(path).read_user_file(path, Columns(), (3, 4, 4), labelled=True)
    merged = opened(path, split_folders="merge")
    assert sorted(name for split in splits(merged).values() for name in split) == list(names)
    assert [merged.split(split).class_sizes for split in SPLITS] == [(4, 4), (4,), (4,)]
    for labelled, dataset in ((True, merged), (False, opened(path))):  # labels of queries only score them
        assert set(dataset.read_user_file(path, Columns(), (3, 4, 4), labelled=labelled).labels) == set(names)


def test_B1_look_alikes_across_splits_are_one_class(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "a", files("train/caf\u00e9", "train/bee", "test/cafe\u0301"))
    with pytest.raises(UserError, match="class 'café' is in the folders of test and train"):
        opened(path).split("train")
    path = write_folder(tmp_path / "b", files("train/birds/jay", "train/fish/koi", "test/jay"))
    with pytest.raises(UserError, match="classes 'birds/jay' of train and 'jay' of test look like one"):
        opened(path).split("train")


def test_E9_validation_without_a_folder_is_a_share_of_train(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"c{number}" for number in range(5)]
    path = write_folder(tmp_path / "own", files(*(f"train/{name}" for name in names), "test/t"))
    with caplog.at_level(logging.INFO):
        one, same = splits(opened(path)), splits(opened(path))
    assert one == same
    assert sorted(one["train"] + one["validation"]) == names
    assert (len(one["validation"]), one["test"]) == (1, ["t"])
    assert f"no folder for validation: it gets 1 of the classes of train: {one['validation'][0]}" in caplog.text
    assert len({tuple(splits(opened(path, split_seed=seed))["validation"]) for seed in range(9)}) > 1


def test_E9_a_missing_split_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "a", files("train/ant", "train/bee", "val/cat"))
    with pytest.raises(UserError, match=r"folders for train, validation, but none for test\..*dataset\.split_folders=merge"):
        opened(path).split("train")
    path = write_folder(tmp_path / "b", files("test/ant", "test/bee"))
    assert opened(path).split("test").names == ("ant", "bee")  # enough for an evaluation
    with pytest.raises(UserError, match=r"no classes for train, only for test\..*dataset\.split_folders=merge"):
        opened(path).split("train")
    path = write_folder(tmp_path / "c", files("train/ant", "test/bee"))
    with pytest.raises(UserError, match="no folder for validation, and 1 class of train cannot be divided"):
        opened(path).split("train")


def test_E9_the_key_says_which_folder_is_which_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_folder(tmp_path / "own", files("Lernen/ant", "Lernen/bee", "P/eins/cat", "P/zwei/dog", "rest/elk", "rest/fox"))
    rule = {"train": "Lernen", "validation": "P/eins", "test": ["zwei"]}
    assert splits(opened(path, split_folders=rule)) == {"train": ["ant", "bee"], "validation": ["cat"], "test": ["P/dog"]}
    assert "4 images in no folder of a split are left out: rest/elk, rest/fox" in caplog.text
    assert len(splits(opened(path, split_folders="none"))["train"]) == 2
    assert read(["1/ant", "2/bee"], {"train": 1, "test": 2}) == [("train", "ant"), ("test", "bee")]
    with pytest.raises(UserError, match=r"holds no images in the folders of dataset\.split_folders=\{'train': 'lernen'\}"):
        opened(path, split_folders={"train": "lernen"}).split("train")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("merged", "did you mean merge"),
        ({"training": "a"}, "name a folder"),
        ({"train": None}, "name a folder"),
        ({}, "name a folder"),
        ({"train": "a", "test": "a"}, "names a folder twice"),
        (None, "must be one of auto, merge, none"),
    ],
)
def test_E9_wrong_rules_are_refused(rule: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.split_folders=.*{message}"):
        ImageFolder("x", SHARES, split_folders=rule)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/ant", "test/bee", "extra/cat"], "folder test looks like a split, but extra beside it does not"),
        (["train/a/ant", "train/b/bee", "test/train/cat"], "folder test/train/cat is in test and in train"),
        (["ant/train", "ant/test", "bee"], "folder ant/test is in a split, but bee is not"),
    ],
)
def test_E9_what_is_ambiguous_is_refused(folders: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message + r".*dataset\.split_folders=\{train: FOLDER"):
        read(folders)
    assert [split for split, _ in read(folders, "none")] == [None] * 3


def test_E9_images_directly_in_folders_of_splits(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "own", files("train", "test"))
    for dataset, labelled in ((opened(path), None), (opened(path), True)):
        with pytest.raises(UserError, match="the folders of splits hold images, not folders of classes"):
            dataset.split("train") if labelled is None else dataset.read_user_file(path, Columns(), (3, 4, 4), labelled=True)
    rows = opened(path).read_user_file(path, Columns(), (3, 4, 4), labelled=False)
    assert set(rows.labels) == {None}
    path = write_folder(tmp_path / "half", files("train/ant", "train/bee", "train/cat", "test"))  # without labels for testing
    with pytest.raises(UserError, match=r"test/0\.png: the folders of splits hold images.*Name the one that has classes"):
        opened(path).split("train")
    assert splits(opened(path / "train"))["train"] in (["ant"], ["bee"], ["cat"])


@pytest.mark.parametrize("more", [{"classes": {"train": ["ant"], "validation": ["bee"], "test": ["cat"]}}, {"split_file": "x"}])
def test_B1_folders_and_lists_do_not_both_divide_the_classes(tmp_path: Path, more: Mapping[str, Any]) -> None:
    path = write_folder(tmp_path / "own", files("train/ant", "val/bee", "test/cat"))
    with pytest.raises(UserError, match=r"both divide the classes: set dataset\.split_folders=merge"):
        opened(path, **more).split("train")
    lists = {"train": ["ant"], "validation": ["cat"], "test": ["bee"]}
    assert splits(opened(path, classes=lists, split_folders="merge")) == lists


def test_E18_all_classes_can_be_for_testing(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "own", files("ant", "bee"))
    dataset = opened(path, classes={"train": 0, "validation": 0, "test": 1})
    assert dataset.split("test").names == ("ant", "bee")
    for split in ("train", "validation"):
        with pytest.raises(UserError, match=f"no classes for {split}, only for test"):
            dataset.split(split)
