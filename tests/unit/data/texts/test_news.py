"""HuffPost and Reuters in the format of Bao et al., whole and broken."""

from pathlib import Path
from typing import Any

import pytest
from fakes import write_zip

from fake_texts import Characters, decoded, json_lines, news, write_folder
from metaloop.data.texts.news import NEWS, News
from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords

ROWS = news(31, 20)


def made(place: Path, name: str = "reuters") -> News:
    return News(Characters(), name, str(place), 20, str(place.parent / "cache"))


@pytest.mark.parametrize("key", ["text", "raw"])
def test_classes_are_divided_as_by_bao_et_al(key: str, tmp_path: Path) -> None:
    dataset = made(write_folder(tmp_path / "news_fewshot", {"reuters.json": json_lines(news(31, 20, key))}))
    assert [dataset.split(split).names for split in ("train", "validation", "test")] == [
        tuple(map(str, range(15))),
        tuple(map(str, range(15, 20))),
        tuple(map(str, range(20, 31))),
    ]
    inputs = dataset.split("test").inputs["input_ids"]  # type: ignore[call-overload]
    assert [decoded(row) for row in inputs[20:40]] == [f"c21 text {k}" for k in range(20)]


def test_the_archive_of_the_authors_has_a_folder(tmp_path: Path) -> None:
    write_zip(tmp_path / "news_fewshot.zip", {"data/reuters.json": json_lines(ROWS), "data/20news.json": b""})
    assert made(tmp_path / "news_fewshot").split("train").class_sizes == (20,) * 15


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([*ROWS[:3], {"text": ["a"], "label": 31}], "line 4: label 31 must be a class number from 0 to 30"),
        ([{"text": ["a"], "label": "3"}], "line 1: label '3'"),
        ([{"text": [], "label": 3}], "line 1: an empty text"),
        ([{"label": 3}], "line 1: no column 'text'"),
        ([{"text": ["a"]}], "line 1: no column 'label'"),
        ([row for row in ROWS if row["label"] != 7], "0 texts of class 7, not 20"),
        (ROWS[:-1], "19 texts of class 30, not 20"),
    ],
)
def test_lines_that_will_not_do(rows: list[dict[str, Any]], expected: str, tmp_path: Path) -> None:
    place = write_folder(tmp_path / "news", {"reuters.json": json_lines(rows)})
    with pytest.raises(UserError, match=expected) as error:
        made(place).split("train")
    assert str(place / "reuters.json") in str(error.value)
    assert "metaloop data get news_fewshot" in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"), [(json_lines(ROWS)[:-9], "line 620: not JSON, or cut short"), (b'{"\xfe"}', "line 1: not UTF-8")]
)
def test_files_that_will_not_do(content: bytes, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        made(write_folder(tmp_path / "news", {"reuters.json": content})).split("train")


def test_there_are_two_sets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.name='rcv1' must be one of huffpost, reuters"):
        made(tmp_path, "rcv1")


@pytest.mark.data
@pytest.mark.parametrize("name", NEWS)
def test_the_real_files(name: str, real_data: Path, tmp_path: Path) -> None:
    dataset = News(HashedWords(1000), name, str(real_data / "text" / "news_fewshot"), 48, str(tmp_path))
    assert tuple(dataset.split(split).num_classes for split in ("train", "validation", "test")) == NEWS[name].classes
    assert set(dataset.split("test").class_sizes) == {NEWS[name].texts}
