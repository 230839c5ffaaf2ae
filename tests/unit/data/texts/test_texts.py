"""Texts become token ids once, whatever is asked of them later."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from fake_texts import Characters, decoded, json_lines, write_folder
from metaloop.data.philox import Stream
from metaloop.data.texts import texts as module
from metaloop.data.texts.text_files import TextFiles
from metaloop.data.texts.texts import Texts, TextSplit, tokenize
from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec

SPLITS = {
    "train": TextSplit({"a": ["one", "two", "three"], "b": ["four", "five"]}),
    "validation": TextSplit({"c": ["six", "seven"], "d": ["eight", "nine"]}),
    "test": TextSplit({"e": ["ten", "eleven"], "f": ["twelve", "13"], "g": ["14", "15"], "h": ["16", "17"]}, [2, 2]),
}


class Numbers(Texts):
    def read(self) -> Mapping[str, TextSplit]:
        return SPLITS


def made(folder: Path, length: int = 6, tokenizer: Characters | None = None) -> Numbers:
    return Numbers(tokenizer or Characters(), length, str(folder))


def test_every_split_holds_its_own_texts_by_class(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    for split, found in SPLITS.items():
        pool = dataset.split(split)
        assert pool.names == tuple(found.classes)
        assert pool.class_sizes == tuple(map(len, found.classes.values()))
        assert isinstance(pool.inputs, Mapping)
        texts = [decoded(row) for row in pool.inputs["input_ids"]]
        assert texts == [text[:6] for members in found.classes.values() for text in members]
        assert pool is dataset.split(split)
    with pytest.raises(UserError, match="split 'val' must be one of train"):
        dataset.split("val")


def test_a_model_sees_whole_numbers_of_64_bits_and_the_pool_keeps_narrow_ones(tmp_path: Path) -> None:
    pool = made(tmp_path).split("train")
    assert isinstance(pool.inputs, Mapping)
    assert {name: array.dtype for name, array in pool.inputs.items()} == {
        "input_ids": torch.int32,
        "attention_mask": torch.uint8,
    }
    x = pool.draw(Stream(0, "train"), torch.arange(4), EpisodeSpec(2, 1, 1)).support.x
    assert isinstance(x, Mapping)
    assert {tensor.dtype for tensor in x.values()} == {torch.int64}
    assert x["attention_mask"].max() == 1
    assert torch.equal(x["attention_mask"].bool(), x["input_ids"] > 0)


def test_texts_are_tokenised_once_and_read_from_the_cache_then(tmp_path: Path) -> None:
    first, second = Characters(), Characters()
    made(tmp_path, tokenizer=first).split("train")
    again = made(tmp_path, tokenizer=second).split("test")
    assert (first.calls, second.calls) == (1, 0)
    assert decoded(again.inputs["input_ids"][1]) == "eleven"  # type: ignore[call-overload]
    for change in ("length", "key"):
        third = Characters()
        third.key = "others" if change == "key" else third.key
        made(tmp_path, 5 if change == "length" else 6, third).split("train")
        assert third.calls == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    made(tmp_path).split("train")
    [file] = tmp_path.glob("*.arrays")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    tokenizer = Characters()
    made(tmp_path, tokenizer=tokenizer).split("train")
    assert tokenizer.calls == 1


def test_many_texts_are_tokenised_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 3)
    monkeypatch.setattr(module, "_PROGRESS_FROM", 5)
    texts = [f"text {k}" for k in range(10)]
    tokenizer = Characters()
    parts = tokenize(tokenizer, texts, 8)
    assert tokenizer.calls == 4
    np.testing.assert_array_equal(parts["input_ids"], Characters()(texts, 8)["input_ids"])
    assert parts["attention_mask"].dtype == np.uint8


def test_classes_of_an_episode_are_of_one_group_and_every_group_has_its_turn(tmp_path: Path) -> None:
    pool = made(tmp_path).split("test")
    classes = pool.draw(Stream(0, "test"), torch.arange(200), EpisodeSpec(2, 1, 1)).classes
    assert classes is not None
    assert {tuple(sorted(row)) for row in classes.tolist()} == {(0, 1), (2, 3)}
    with pytest.raises(UserError, match=r"episode\.ways=3: all classes of an episode come from one group.* only 2"):
        pool.check(EpisodeSpec(3, 1, 1))
    moved = pool.to("cpu").draw(Stream(0, "test"), torch.arange(200), EpisodeSpec(2, 1, 1)).classes
    assert torch.equal(moved, classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, True, 2.5])
def test_a_length_is_a_whole_number(length: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.length="):
        made(tmp_path, length)


def test_B9_texts_that_are_cut_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"text": f"{c} {'and so on ' * (k == 0)}{k}", "label": c} for k in range(4) for c in "abcdef"]
    write_folder(tmp_path, {"mine.jsonl": json_lines(rows)})

    def opened(length: int) -> TextFiles:
        return TextFiles(HashedWords(100), "mine.jsonl", str(tmp_path), length=length, cache_dir=str(tmp_path / "cache"))

    for _ in range(2):  # made, and from the cache
        data = opened(3)
        assert data.counts() == {}
        pool = data.split("train")
        assert data.counts() == {split: ExampleCounts(8, 0, 0, cut=2) for split in ("train", "validation", "test")}
        assert isinstance(pool.inputs, dict)
        assert set(pool.inputs) == {"input_ids", "attention_mask"}
        told = "6 of 24 texts (25.0 %) have more tokens than dataset.length=3; the rest of them is not read"
        assert caplog.messages == [f"{told} (train 2, validation 2, test 2)"]
        caplog.clear()
    rows = data.read_user_file(tmp_path / "mine.jsonl", Columns(), (3,), labelled=True)
    assert rows.cut == 6
    assert caplog.messages == [f"{tmp_path / 'mine.jsonl'}: {told}"]
    caplog.clear()
    whole = opened(9)
    whole.split("test")
    assert whole.counts()["test"] == ExampleCounts(8, 0, 0, cut=0)
    assert not caplog.messages
    unknown = TextFiles(Characters(), "mine.jsonl", str(tmp_path), length=3, cache_dir=str(tmp_path / "cache"))
    unknown.split("test")
    assert unknown.counts()["test"] == ExampleCounts(8, 0, 0)
