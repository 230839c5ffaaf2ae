"""FewRel in its official format, whole and broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from fake_texts import Characters, decoded, fewrel, write_folder
from metaloop.data.texts.fewrel import MARKS, FewRel, read_relations
from metaloop.data.texts.text_origins import ORIGINS
from metaloop.data.texts.text_reading import TextFile
from metaloop.errors import UserError


def files(seen: Any = None, held_out: Any = None) -> dict[str, bytes]:
    parts = {"train_wiki.json": fewrel(100, 20) if seen is None else seen, "val_wiki.json": held_out or fewrel(200, 4)}
    return {name: json.dumps(content).encode() for name, content in parts.items()}


def made(place: Path, **more: Any) -> FewRel:
    return FewRel(Characters(), str(place), 60, cache_dir=str(place.parent / "cache"), **more)


def test_relations_are_held_out_and_entities_marked(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "fewrel", files())
    dataset = made(place)
    assert [dataset.split(split).names for split in ("train", "validation", "test")] == [
        tuple(f"P{number}" for number in range(100, 106)),
        tuple(f"P{number}" for number in range(106, 120)),
        tuple(f"P{number}" for number in range(200, 204)),
    ]
    assert decoded(dataset.split("test").inputs["input_ids"][0]) == "# Ann Lee # was born in $ Rome $"  # type: ignore[call-overload]
    own = made(place, head=("[E1]", "[/E1]"), tail=("[E2]", "[/E2]")).split("train").inputs["input_ids"]  # type: ignore[call-overload]
    assert decoded(own[0]) == "[E1] Ann Lee [/E1] was born in [E2] Rome [/E2]"
    with pytest.raises(UserError, match=r"dataset\.head='#' must be a list of two marks"):
        made(place, head="#")


def test_marks_of_entities_that_touch_or_lie_in_each_other() -> None:
    def marked(head: list[int], tail: list[int]) -> str:
        sentence = {"tokens": ["a", "b", "c"], "h": ["", "", [head]], "t": ["", "", [tail]]}
        return read_relations(TextFile(Path("f"), json.dumps({"P1": [sentence]}), ORIGINS["fewrel"]), MARKS)["P1"][0]

    assert marked([0], [1, 2]) == "# a # $ b c $"
    assert marked([0, 1, 2], [1]) == "# a $ b $ c #"
    assert marked([2], [0]) == "$ a $ b # c #"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"P1": "none"}, "relation P1 must be a list of sentences"),
        ({"P1": []}, "relation P1 must be a list of sentences"),
        ({"P1": [{"tokens": ["a"]}]}, r"P1\[0\] must have the keys tokens, h and t"),
        ({"P1": [{"tokens": [], "h": [], "t": []}]}, r"P1\[0\]: an empty text"),
        ({"P1": [{"tokens": "a text", "h": [], "t": []}]}, r"P1\[0\]: tokens must be a list"),
        ({"P1": [{"tokens": ["a"], "h": ["a", "Q1", [[1]]], "t": ["a", "Q1", [[0]]]}]}, r"P1\[0\]: h is not"),
        ({"P1": [{"tokens": ["a"], "h": ["a", "Q1", [[0]]], "t": ["a", "Q1", []]}]}, r"P1\[0\]: t is not"),
        ([], "not in FewRel's format"),
        (fewrel(100, 14), "only 14 relations"),
        (fewrel(190, 20), r"relation P200 is also in val_wiki\.json"),
    ],
)
def test_contents_that_will_not_do(change: Any, expected: str, tmp_path: Path) -> None:
    place = write_folder(tmp_path / "fewrel", files(seen=change))
    with pytest.raises(UserError, match=expected) as error:
        made(place).split("train")
    assert "train_wiki.json" in str(error.value)
    assert "metaloop data get fewrel" in str(error.value)


def test_a_file_that_is_cut_short_or_missing(tmp_path: Path) -> None:
    whole = files()
    place = write_folder(tmp_path / "fewrel", whole | {"val_wiki.json": whole["val_wiki.json"][:-5]})
    with pytest.raises(UserError, match=r"val_wiki\.json: not JSON, or cut short"):
        made(place).split("train")
    (place / "val_wiki.json").unlink()
    with pytest.raises(UserError, match=r"val_wiki\.json: no such file"):
        made(place).split("train")
