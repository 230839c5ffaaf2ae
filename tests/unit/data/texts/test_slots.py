"""Slot filling in the official format, whole and broken."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import write_zip

from metaloop.data.philox import Stream
from metaloop.data.texts.slots import Slots
from metaloop.data.texts.word_pool import WordPool
from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords
from metaloop.types import EpisodeSpec

INTENTS = {"train": ["Rain"], "validation": ["Song"], "test": ["Book"]}
SHARES = {"train": 1, "validation": 1, "test": 1}
PARTS = ("label", "seq.in", "seq.out")


def files(count: int = 8) -> dict[str, str]:
    """Each split's folder has ``count`` utterances of each of three intents, which have slots day, place and rare."""
    found = {}
    for folder in ("train", "valid", "test"):
        lines: dict[str, list[str]] = {part: [] for part in PARTS}
        for intent in ("Rain", "Song", "Book"):
            for k in range(count):
                lines["label"].append(intent)
                lines["seq.in"].append(f"{intent} {folder} on day {k} in city{k} please ")
                lines["seq.out"].append(f"O O O B-day I-day O B-{'rare' if k == 0 else 'place'} O ")
        found |= {f"own/{folder}/{part}": "".join(f"{line}\n" for line in lines[part]) for part in PARTS}
    return found


def folder(place: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def made(place: Path, **settings: Any) -> Slots:
    given = {"length": 12, "intents": INTENTS, "shares": None, "seed": 0, "least": 4} | settings
    return Slots(HashedWords(5000), "own", str(place), cache_dir=str(place.parent / "cache"), **given)


def test_intents_are_divided_and_rare_slots_are_none(tmp_path: Path) -> None:
    dataset = made(folder(tmp_path / "slots", files()))
    assert dataset.split("train").names == ("Rain.day", "Rain.place")
    assert dataset.split("test").names == ("Book.day", "Book.place")
    inputs = dataset.split("test").inputs
    assert isinstance(inputs, dict)
    assert inputs["input_ids"].shape == (3 * 8 * 8, 12)  # words of the utterances of all three files
    assert inputs["place"].flatten().tolist() == list(range(8)) * 24
    assert dataset.split("test") is dataset.split("test")


def test_words_get_the_labels_of_their_slots(tmp_path: Path) -> None:
    pool = made(folder(tmp_path / "slots", files())).split("test")
    tasks = pool.draw(Stream(0, "test"), torch.arange(20), EpisodeSpec(2, 1, 2))
    tokenizer = HashedWords(5000)
    assert isinstance(tasks.query.x, dict)
    word = tasks.query.x["input_ids"].gather(2, tasks.query.x["place"])[..., 0][tasks.query.mask]
    labels = tasks.query.y[tasks.query.mask]
    day, please = (int(tokenizer.words([[text]], 1)["input_ids"][0, 0]) for text in ("day", "please"))
    days = labels[word == day]
    assert set(days.tolist()) == {1, 2}  # by the order in which types were drawn
    assert set(labels[word == please].tolist()) == {0}


def test_slots_are_divided_and_each_split_has_its_own_file(tmp_path: Path) -> None:
    content = files(count=6)
    for part in ("train", "valid", "test"):
        content[f"own/{part}/seq.out"] = content[f"own/{part}/seq.out"].replace("O O O B", "B-who O O B")
    dataset = made(folder(tmp_path / "slots", content), intents=None, shares=SHARES)
    names = [dataset.split(split).names for split in ("train", "validation", "test")]
    assert sorted(name for each in names for name in each) == ["day", "place", "who"]
    assert len(dataset.split("train").inputs["input_ids"]) == 3 * 6 * 8  # type: ignore[call-overload]


def test_an_archive_may_have_a_folder_around_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "slots.zip", {f"data/{name}": text.encode() for name, text in files().items()})
    assert isinstance(made(tmp_path / "slots").split("train"), WordPool)


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("train/seq.out", "O B-place O \n", "O B-place \n", "line 2: 7 tags, but seq.in has 8 words"),
        ("train/seq.out", "B-place", "X-place", "line 2: tag 'X-place' must be O, B-SLOT or I-SLOT"),
        ("valid/seq.out", "I-day", "I-", "line 1: tag 'I-'"),
        ("test/seq.in", "Song test on day 0 in city0 please ", " ", "line 9: an empty text"),
        ("test/label", "Song\n", "", "23 lines, but seq.in has 24"),
        ("test/label", "Rain\n", "\n", "line 1: an empty text"),
    ],
)
def test_files_that_do_not_fit_each_other(name: str, old: str, new: str, expected: str, tmp_path: Path) -> None:
    content = files()
    assert old in content[f"own/{name}"]
    content[f"own/{name}"] = content[f"own/{name}"].replace(old, new, 1)
    with pytest.raises(UserError, match=expected) as error:
        made(folder(tmp_path / "slots", content)).split("train")
    assert f"own/{name}" in str(error.value)
    assert "SlotGated-SLU" in str(error.value)


def test_a_file_that_is_missing_or_empty(tmp_path: Path) -> None:
    place = folder(tmp_path / "slots", files())
    for part in PARTS:
        (place / "own" / "valid" / part).write_text("\n")
    with pytest.raises(UserError, match="own/valid/label: the file is empty"):
        made(place).split("train")
    (place / "own" / "valid" / "seq.out").unlink()
    with pytest.raises(UserError, match=r"own/valid/seq.out: no such file"):
        made(place).split("train")


def test_archives_that_will_not_do(tmp_path: Path) -> None:
    whole = {f"data/{name}": text.encode() for name, text in files().items()}
    write_zip(tmp_path / "slots.zip", whole)
    (tmp_path / "cut.zip").write_bytes((tmp_path / "slots.zip").read_bytes()[:-40])
    with pytest.raises(UserError, match="not a whole zip archive"):
        made(tmp_path / "cut").split("train")
    write_zip(tmp_path / "outside.zip", whole | {"../own/train/label": b"x"})
    with pytest.raises(UserError, match="points outside the archive"):
        made(tmp_path / "outside").split("train")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"length": 7}, r"dataset.length=7 cuts off words of 'Rain train on day 0"),
        ({"length": 0}, r"dataset.length=0"),
        ({"least": True}, r"dataset.least=True"),
        ({"least": 99}, r"dataset.least=99: no slot of the train split"),
        ({"shares": SHARES}, "set exactly one, the other null"),
        ({"intents": None}, "set exactly one, the other null"),
        (
            {"intents": INTENTS | {"test": ["Rain"]}},
            "each named once; 'Rain' is unknown or named twice; the intents are Book, Rain, Song",
        ),
        ({"intents": INTENTS | {"test": ["Bok"]}}, "'Bok' is unknown or named twice"),
        ({"intents": {"train": ["Rain"]}}, "each of train, validation, test needs intents"),
    ],
)
def test_settings_that_will_not_do(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    place = folder(tmp_path / "slots", files())
    with pytest.raises(UserError, match=expected):
        made(place, **settings).split("train")
