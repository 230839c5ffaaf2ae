"""Anybody's labelled texts, and the data sets that are published as such."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fakes import write_zip

from fake_texts import Characters, decoded, json_lines, write_folder
from metaloop.data.class_splits import by_shares
from metaloop.data.texts.text_files import TextFiles
from metaloop.errors import UserError

ROWS = [{"text": f'"{c}", text {k}', "label": c} for k in range(3) for c in "abcdef"]
SPLITS = ("train", "validation", "test")


def csv_of(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def made(place: Path, content: Mapping[str, bytes], **more: Any) -> TextFiles:
    write_folder(place / "mine", content)
    arguments = {"files": list(content), "data_dir": str(place / "mine"), "length": 20, "cache_dir": str(place / "cache")}
    return TextFiles(Characters(), **(arguments | more))


def names(dataset: TextFiles) -> list[tuple[str, ...]]:
    return [dataset.split(split).names for split in SPLITS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", csv_of(ROWS)),
        ("a.tsv", csv_of(ROWS, "\t")),
        ("a.jsonl", json_lines(ROWS)),
        ("a.json", json_lines(ROWS)),
        ("A.JSON", json.dumps(ROWS).encode()),
        ("a.csv", b"\xef\xbb\xbf" + csv_of(ROWS).replace(b"\n", b"\r\n")),
    ],
)
def test_every_format_gives_the_same(name: str, content: bytes, tmp_path: Path) -> None:
    dataset = made(tmp_path, {name: content})
    assert sorted(sum(names(dataset), ())) == list("abcdef")
    for split in SPLITS:
        pool = dataset.split(split)
        texts = [decoded(row) for row in pool.inputs["input_ids"]]  # type: ignore[call-overload]
        assert texts == [f'"{c}", text {k}' for c in pool.names for k in range(3)]


def test_several_files_and_an_archive(tmp_path: Path) -> None:
    write_zip(tmp_path / "all.zip", {"one.csv": csv_of(ROWS[:6]), "two.csv": csv_of(ROWS[6:])})
    dataset = TextFiles(Characters(), ["one.csv", "two.csv"], str(tmp_path / "all.zip"), cache_dir=str(tmp_path))
    assert dataset.split("train").class_sizes == (3, 3)
    one = TextFiles(Characters(), "one.csv", str(tmp_path / "all.zip"), cache_dir=str(tmp_path))
    assert one.split("train").class_sizes == (1, 1)


def test_shares_of_classes_are_drawn_by_a_seed(tmp_path: Path) -> None:
    content = {"a.csv": csv_of(ROWS)}
    shares = {"train": 3, "validation": 1, "test": 2}
    found = [names(made(tmp_path, content, shares=shares, split_seed=seed)) for seed in range(6)]
    assert [len(split) for split in found[0]] == [2, 2, 2]  # not one of meta-validation
    assert len({tuple(each) for each in found}) > 1
    assert found[0] == names(made(tmp_path, content, shares=shares))
    assert all(list(split) == sorted(split) for split in found[0])


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"train": 1, "validation": 1}, "a positive number for each of train, validation, test"),
        ({"train": 1, "validation": 0, "test": 1}, "a positive number"),
        ({"train": 100, "validation": 1, "test": 1}, "divides 6 classes into train 6, validation 0, test 0"),
    ],
)
def test_shares_that_will_not_do(shares: dict[str, float], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        by_shares(list("abcdef"), shares, 0)


def test_a_column_may_say_the_split(tmp_path: Path) -> None:
    parts = {"a": "train", "b": "Train ", "c": "dev", "d": "valid", "e": "test", "f": "test"}
    rows = [{**row, "part": parts[row["label"]]} for row in ROWS]
    assert names(made(tmp_path, {"a.csv": csv_of(rows)}, split_column="part")) == [("a", "b"), ("c", "d"), ("e", "f")]
    rows[7]["part"] = "test"
    with pytest.raises(UserError, match=r"a\.csv: line 9: class 'b' is in test here and in train before"):
        made(tmp_path, {"a.csv": csv_of(rows)}, split_column="part").split("train")
    rows[7]["part"] = "holdout"
    with pytest.raises(UserError, match="line 9: part='holdout' must be one of train, validation, val"):
        made(tmp_path, {"a.csv": csv_of(rows)}, split_column="part").split("train")
    rows = [{**row, "part": "train"} for row in ROWS]
    with pytest.raises(UserError, match=r"dataset\.split_column=part: no class is in validation, test"):
        made(tmp_path, {"a.csv": csv_of(rows)}, split_column="part").split("train")


def test_lists_may_say_the_split_and_leave_classes_out(tmp_path: Path) -> None:
    content = {"a.csv": csv_of(ROWS)}
    lists = {"train": ["b", "a"], "validation": "validation.txt", "test": ["e"]}
    write_folder(tmp_path / "mine", {"validation.txt": b"c\n\nd\n"})
    assert names(made(tmp_path, content, class_lists=lists)) == [("b", "a"), ("c", "d"), ("e",)]
    for wrong, expected in (
        ({"test": ["x"]}, r"dataset\.class_lists\.test: there are no texts of class 'x'"),
        ({"test": ["a"]}, r"dataset\.class_lists\.test: class 'a' is named twice"),
        ({"train": ["a", "a"]}, r"dataset\.class_lists\.train: class 'a' is named twice"),
        ({"train": "none.txt"}, r"none\.txt: no such file"),
        ({"train": []}, r"dataset\.class_lists needs class names, or a file's name, for each of"),
    ):
        with pytest.raises(UserError, match=expected):
            made(tmp_path, content, class_lists=lists | wrong).split("train")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"utterance,label\nhi,a\n", "line 2: no column 'text'; the columns are 'utterance', 'label'"),
        ("a.csv", b"text,intent\nhi,a\n", "line 2: no column 'label'"),
        ("a.csv", b"text,label\nhi,a\n ,a\n", "line 3: an empty text"),
        ("a.csv", b"text,label\nhi,\n", "line 2: column 'label' must hold a label, not ''"),
        ("a.csv", b"text,label\n", "no texts"),
        ("a.csv", b"text,label\ncaf\xe9,a\n", "line 2: not UTF-8 .*save the file as UTF-8"),
        ("a.csv", b"text,label\nhi,a,b\n", "line 2: 3 cells, but the header has 2"),
        ("a.jsonl", b'{"text": "hi", "label": null}\n', "line 1: column 'label' must hold a label"),
        ("a.jsonl", b'{"text": 3, "label": "a"}\n', "line 1: must be a text, not '3'"),
        ("a.json", b'[{"text": "hi", "label": "a"}, 3]', "entry 2 must be a JSON object"),
        ("a.txt", b"hi", r"dataset\.files: a\.txt must end in one of \.csv, \.tsv, \.json"),
    ],
)
def test_files_that_will_not_do(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        made(tmp_path, {name: content}).split("train")


def test_a_message_about_own_files_names_the_keys_to_change(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.csv: no such file.* Check dataset\.files, dataset\.data_dir") as error:
        made(tmp_path, {"a.csv": csv_of(ROWS)}, files="b.csv").split("train")
    assert "licence" not in str(error.value)


def test_arguments_that_contradict_each_other(tmp_path: Path) -> None:
    lists = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    for more, expected in (
        ({"split_column": "part", "class_lists": lists}, "both divide the classes"),
        ({"files": []}, r"dataset\.files must name at least one file"),
        ({"source": "banking7"}, r"dataset\.source='banking7' must be one of clinc150"),
        ({"class_lists": {"train": ["a"]}}, r"dataset\.class_lists needs class names"),
    ):
        with pytest.raises(UserError, match=expected):
            made(tmp_path, {"a.csv": csv_of(ROWS)}, **more)


def test_a_published_set_that_lost_a_class_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine: a\.csv: 6 classes, 77 are expected\. Get it with `metaloop data get bank"):
        made(tmp_path, {"a.csv": csv_of(ROWS)}, source="banking77", classes=77).split("train")
