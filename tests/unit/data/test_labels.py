"""Labels that look alike are one class wherever users' files are read."""

import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fake_texts import Characters
from metaloop.data.images.image_folder import find_classes
from metaloop.data.labels import plain_label, tell_alike
from metaloop.data.texts.text_files import TextFiles
from metaloop.data.user.row_files import read_rows
from metaloop.data.user.tasks import Columns

CAFE, NFD = "café", unicodedata.normalize("NFD", "café")
ALIKE = [
    (NFD, CAFE),
    ("1.0", "1"),
    ("-2.00", "-2"),
    (1, "1"),
    (0.0, "0"),
    (2.5, "2.5"),
    ("\u00a0a\u2003\u00a0b\t", "a b"),
    ("\ufeffa\u200bb", "ab"),
    ("a\u00ad", "a"),
    (True, "true"),
    ("TRUE", "true"),
    ("False", "false"),
    ("می\u200cروم", "می\u200cروم"),  # the joiner is part of the word
    ("v1.0", "v1.0"),
    ("1.10", "1.10"),
    ("0010", "0010"),
    (None, None),
    (float("nan"), None),
    (" \u200b\u200d ", None),
]


@pytest.mark.parametrize(("given", "expected"), ALIKE)
def test_B5_a_label_has_one_spelling(given: Any, expected: str | None) -> None:
    assert plain_label(given) == expected


def test_B5_what_is_no_label_is_refused() -> None:
    for value in ([], {}, ["a"]):
        with pytest.raises(TypeError):
            plain_label(value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_B5_training_and_prediction_read_the_same_labels(suffix: str, tmp_path: Path) -> None:
    pairs = [(given, expected) for given, expected in ALIKE if expected]
    path = tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        path.write_text("text,label\n" + "".join(f'text {k},"{given}"\n' for k, (given, _) in enumerate(pairs)))
    else:
        path.write_text("".join(json.dumps({"text": f"text {k}", "label": given}) + "\n" for k, (given, _) in enumerate(pairs)))
    data = TextFiles(Characters(), path.name, str(tmp_path), cache_dir=str(tmp_path / "cache"))
    trained = [name for split in data.read().values() for name in split.classes]
    assert sorted(trained) == sorted({expected for _, expected in pairs})
    rows = data.read_user_file(path, Columns(), (64,), labelled=True)
    table = read_rows(path)
    assert list(rows.labels) == [table.label(row, line, "label") for line, row in table.rows] == [each for _, each in pairs]


def test_B5_names_in_lists_and_of_folders_have_the_same_spelling(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(f"text,label\nhi,{NFD}\nho,{CAFE}\nha,1.0\nhe,thé\n")
    (tmp_path / "train.txt").write_text(f"{NFD}\n")
    lists = {"train": "train.txt", "validation": ["1"], "test": [unicodedata.normalize("NFD", "thé")]}
    data = TextFiles(Characters(), "mine.csv", str(tmp_path), class_lists=lists, cache_dir=str(tmp_path / "cache"))
    assert [list(split.classes) for split in data.read().values()] == [[CAFE], ["1"], ["thé"]]
    for number, name in enumerate((CAFE, NFD, "thé")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(tmp_path / "pictures" / name / f"{number}.png")
    assert {name: len(images) for name, images in find_classes(tmp_path / "pictures").images.items()} == {CAFE: 2, "thé": 1}


def test_B5_a_published_data_set_keeps_its_labels(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "".join(("text,category\n", *(f"text {k},{c}\n" for k, c in enumerate((NFD, CAFE, "1.0")))))
    )
    data = TextFiles(
        Characters(), "train.csv", str(tmp_path), label_column="category", source="banking77", cache_dir=str(tmp_path / "cache")
    )
    assert {name for split in data.read().values() for name in split.classes} == {NFD, CAFE, "1.0"}


def test_B5_labels_of_other_case_or_width_stay_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tell_alike(["dog", "cat", "Cat"], "mine.csv")
        tell_alike(["ａ", "a"], "mine.csv")
        tell_alike(["dog", "cat"], "fine.csv")
    assert caplog.messages == [
        f"mine.csv: {pair} are different classes, though they look alike" for pair in ("'Cat' and 'cat'", "'a' and 'ａ'")
    ]
