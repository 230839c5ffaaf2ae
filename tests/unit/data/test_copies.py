"""Equal examples of a user's files are counted, and never in support and query of one episode."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from metaloop.data.copies import Copies, count_repeats
from metaloop.data.episodes import Episodes
from metaloop.data.images.image_folder import ImageFolder
from metaloop.data.philox import Stream
from metaloop.data.pool import ClassPool
from metaloop.data.tables.tabular import Tabular
from metaloop.data.texts.text_files import TextFiles
from metaloop.data.user.tasks import Columns, user_task
from metaloop.errors import UserError
from metaloop.models.hashed_words import HashedWords
from metaloop.problems.classification import Classification
from metaloop.records.schema import ExampleCounts
from metaloop.types import EpisodeSpec, Tasks

CLASSES = ["aabcdefgh", "iijjklmno", "pqrstuvwx", "ayyyzzzzz"]  # 'a' is in two classes
LETTERS = "".join(CLASSES)


def pool(classes: Sequence[str] = CLASSES, *, apart: bool = True) -> ClassPool:
    x = torch.tensor([[ord(letter)] for letter in "".join(classes)], dtype=torch.int32)
    copies = Copies.of(classes) if apart else None
    return ClassPool(x, [len(each) for each in classes], [f"c{k}" for k in range(len(classes))], split="train", copies=copies)


def tasks(pool: ClassPool, spec: EpisodeSpec, count: int = 300) -> Tasks:
    return Episodes(pool, spec, Stream(0, "train")).tasks(torch.arange(count))


def shared(drawn: Tasks) -> int:
    """Number of episodes with an equal example in support and query, besides the zeros of padding."""
    support, query = (part.x.flatten(2) for part in (drawn.support, drawn.query))  # type: ignore[union-attr]
    equal = (support[:, :, None] == query[:, None]).all(-1) & support.ne(0).any(-1)[:, :, None]
    return int(equal.flatten(1).any(1).sum())


@pytest.mark.parametrize("spec", [EpisodeSpec(2, 1, 2), EpisodeSpec(4, 1, 3), EpisodeSpec((2, 4), (1, 2), 1)])
def test_B4_no_query_equals_a_support_example(spec: EpisodeSpec) -> None:
    assert shared(tasks(pool([*CLASSES[:3], "yyzz01234"]), spec)) == 0
    assert shared(tasks(pool(apart=False), EpisodeSpec(4, 1, 3))) > 0
    drawn = tasks(pool(), EpisodeSpec(3, 1, 3))  # also if the copy is in another class
    assert shared(drawn) == 0
    rows = {
        (int(c), int(x)) for c, x in zip(drawn.classes.repeat_interleave(3, 1).flatten(), drawn.query.x.flatten(), strict=True)
    }  # type: ignore[union-attr]
    assert rows == {(c, ord(x)) for c, each in enumerate(CLASSES) for x in each}  # each example can be a query


def test_B4_a_pool_passes_its_copies_on_and_needs_none_if_all_are_different() -> None:
    assert Copies.of(["abcd", "efgh", "ijkl"]) is None  # so that its episodes are as ever
    drawn = tasks(pool(), EpisodeSpec(2, 1, 2), 20)
    again = tasks(pool().of(pool().inputs).to("cpu"), EpisodeSpec(2, 1, 2), 20)  # type: ignore[arg-type]
    assert torch.equal(drawn.query.x, again.query.x)  # type: ignore[arg-type]


def test_B4_too_few_different_examples_are_named() -> None:
    with pytest.raises(
        UserError,
        match=r"queries=3: class 'c3' of the train split has 9 examples, 3 of them different, so 2 shots may leave only 0",
    ):
        tasks(pool(), EpisodeSpec(2, 2, 3))
    tasks(pool(apart=False), EpisodeSpec(2, 2, 3))


def test_B4_copies_are_counted_by_split() -> None:
    assert count_repeats({"train": ["aab", "cde"], "test": ["af", "ggg"]}) == {"train": (1, 2), "test": (2, 1)}


def texts(path: Path, rows: Sequence[tuple[str, str]], **more: Any) -> TextFiles:
    with (path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return TextFiles(HashedWords(1000), "mine.csv", str(path), cache_dir=str(path / "cache"), **more)


def noise(classes: int = 9, copies: int = 5) -> list[tuple[str, str]]:
    """Rows of texts that say nothing about their class, each of them several times."""
    return [
        (f"w{(7 * c + 3 * k) % 31} w{(5 * c + 11 * k) % 37}", f"c{c}")
        for _ in range(copies)
        for k in range(4)
        for c in range(classes)
    ]


def test_B4_repeated_texts_are_told_and_kept_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = noise()
    rows[0] = (f" {rows[0][0]}\u200b", rows[0][1])  # looks the same
    data = texts(tmp_path, rows)
    for split in ("train", "validation", "test"):
        drawn = tasks(data.split(split), EpisodeSpec(2, 1, 15))  # type: ignore[arg-type]
        ids = drawn.support.x["input_ids"], drawn.query.x["input_ids"]  # type: ignore[index, call-overload]
        assert not (ids[0][:, :, None] == ids[1][:, None]).all(-1).any()
        assert data.counts()[split] == ExampleCounts(60, repeated=48, contradictory=0, cut=0)
    assert caplog.messages == [
        "144 of 180 texts repeat another of their class; copies are never in both support and query of one episode"
    ]
    caplog.clear()
    allowed = texts(tmp_path, rows, repeats="anywhere").split("test")
    ids = tasks(allowed, EpisodeSpec(2, 1, 15)).query.x["input_ids"]  # type: ignore[arg-type, index, call-overload]
    assert len(ids)
    assert "copies can be in both support and query of one episode" in caplog.text


def test_B4_a_text_with_two_labels_is_refused_or_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*noise(copies=1), ("w0  w0", "c5"), ("again", "c1"), ("again", "c2")]
    with pytest.raises(
        UserError, match=r"line 38: 'w0 w0' has the labels 'c0' and 'c5' \(2 such texts\); .*dataset\.contradictions=keep"
    ):
        texts(tmp_path, rows).read()
    kept = texts(tmp_path, rows, contradictions="keep")
    kept.split("train")
    assert sum(counts.contradictory or 0 for counts in kept.counts().values()) == 4
    assert caplog.messages == ["4 of 39 texts are in several classes"]
    for key in ("repeats", "contradictions"):
        with pytest.raises(UserError, match=rf"dataset\.{key}='no' must be one of"):
            texts(tmp_path, rows, **{key: "no"})


def test_B4_a_published_data_set_keeps_its_episodes(tmp_path: Path) -> None:
    rows = noise()
    data = texts(tmp_path, [*rows, (rows[0][0], "c5")], source="banking77")
    drawn = tasks(data.split("test"), EpisodeSpec(2, 1, 15))  # type: ignore[arg-type]
    ids = drawn.support.x["input_ids"], drawn.query.x["input_ids"]  # type: ignore[index, call-overload]
    assert (ids[0][:, :, None] == ids[1][:, None]).all(-1).any()
    assert data.counts()["test"].repeated


def pictures(folder: Path, contents: dict[str, Sequence[int]]) -> Path:
    """Write grey pictures of some levels, one folder a class."""
    for label, levels in contents.items():
        (folder / label).mkdir(parents=True)
        for k, level in enumerate(levels):
            pixels = np.full((9, 9), 255, np.uint8)
            pixels[:2] = level  # off the middle, which is compared first
            Image.fromarray(pixels).save(folder / label / f"{k}.png")
    return folder


def test_B4_equal_pictures_are_told_and_kept_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes = {f"c{c}": [20 * c + k // 2 for k in range(8)] for c in range(8)}
    folder = pictures(tmp_path / "own", classes)
    shares = {"train": ["c0", "c1"], "validation": ["c2", "c3"], "test": ["c4", "c5"]}
    more: dict[str, Any] = {"side": 9, "decoders": 0, "cache_dir": str(tmp_path / "cache")}
    data = ImageFolder(str(folder), shares, **more)
    assert shared(tasks(data.split("test"), EpisodeSpec(2, 1, 4))) == 0
    assert data.counts()["test"] == ExampleCounts(16, repeated=8, contradictory=0)
    message = "24 of 48 images repeat another of their class; copies are never in both support and query of one episode"
    assert message in caplog.messages
    anywhere = ImageFolder(str(folder), shares, repeats="anywhere", **more)
    assert shared(tasks(anywhere.split("test"), EpisodeSpec(2, 1, 4))) > 0
    caplog.clear()
    twice = pictures(tmp_path / "twice", classes | {"c5": classes["c0"]})
    ImageFolder(str(twice), shares, **more).split("test")
    assert "16 of 48 images are in several classes" in caplog.messages


def test_B4_rows_of_tables_are_counted() -> None:
    tables = {"train": ["iris"], "validation": ["wine"], "test": ["breast_cancer"]}
    data = Tabular(Classification(), tables, "")
    data.split("train")
    assert data.counts()["validation"] == ExampleCounts(178, repeated=0, contradictory=0)
    assert data.counts()["train"] == ExampleCounts(150, repeated=1, contradictory=0)


def test_B4_copies_in_a_support_set_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "s.csv").write_text("text,label\nhi,a\nhi ,a\nho,b\n")
    data = TextFiles(HashedWords(1000), "s.csv", str(tmp_path), cache_dir=str(tmp_path / "cache"))
    user_task(data.read_user_file(tmp_path / "s.csv", Columns(), (64,), labelled=True), Classification())
    assert caplog.messages == [f"{tmp_path / 's.csv'}: 1 of 3 examples repeat another of their class"]
    (tmp_path / "s.csv").write_text("text,label\nhi,a\nhi ,b\n")
    with pytest.raises(UserError, match="has two labels, 'a' and 'b'"):
        user_task(data.read_user_file(tmp_path / "s.csv", Columns(), (64,), labelled=True), Classification())
