"""ARSC in its official format, whole and broken."""

from pathlib import Path

import pytest
import torch

from fake_texts import Characters, arsc, decoded, write_folder
from metaloop.data.philox import Stream
from metaloop.data.texts.arsc import ARSC
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec


def made(place: Path, *exclude: str) -> ARSC:
    return ARSC(Characters(), str(place), 30, exclude, str(place.parent / "cache"))


def test_domains_are_held_out_and_a_task_has_its_own_two_classes(tmp_path: Path) -> None:
    dataset = made(write_folder(tmp_path / "arsc", arsc()))
    train, test = dataset.split("train"), dataset.split("test")
    assert train.names == tuple(f"baby.{t} {label}" for t in ("t2", "t4", "t5") for label in ("negative", "positive"))
    assert dataset.split("validation").num_classes == 4 * 3 * 2
    assert test.names[0] == "books.t2 negative"
    assert (train.class_sizes[0], test.class_sizes[0]) == (6, 4)  # the dev files of meta-test tasks are not used
    texts = [decoded(row) for row in test.inputs["input_ids"]]  # type: ignore[call-overload]
    assert set(texts) == {f"{part} {k} of books" for part in ("train", "test") for k in range(2)}
    classes = train.draw(Stream(0, "train"), torch.arange(60), EpisodeSpec(2, 1, 1)).classes
    assert {tuple(sorted(row)) for row in classes.tolist()} == {(0, 1), (2, 3), (4, 5)}  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"episode\.ways=5: all classes of an episode come from one group"):
        train.check(EpisodeSpec(5, 1, 1))


def test_a_task_can_be_left_out(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "arsc", arsc())
    assert made(place, "baby.t2").split("train").num_classes == 4
    with pytest.raises(UserError, match=r"dataset\.exclude: no task 'baby\.t3'"):
        made(place, "baby.t3").split("train")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("baby.t2.dev", b"fine\t1\nno label\n", "line 2: must be a review, a tab, and 1 or -1, not 'no label'"),
        ("baby.t2.dev", b"fine\t3\n", "line 1: must be a review, a tab, and 1 or -1"),
        ("baby.t2.dev", b" \t1\n", "line 1: an empty text"),
        ("baby.t2.dev", b"caf\xe9\t1\n", "line 1: not UTF-8"),
        ("workspace.target.list", b"\n", "names no domain"),
        ("workspace.filtered.list", b"books\nbaby\n", "only 1 domains that are not for meta-test"),
        ("workspace.filtered.list", b"books\nbaby\ntoys\ncamera\ncellphones\nshoes\n", r"shoes\.t2\.train: no such file"),
    ],
)
def test_files_that_will_not_do(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    place = write_folder(tmp_path / "arsc", arsc() | {name: content})
    with pytest.raises(UserError, match=expected) as error:
        made(place).split("train")
    assert "Gorov/DiverseFewShot_Amazon" in str(error.value)


def test_a_task_without_a_class(tmp_path: Path) -> None:
    gone = {f"toys.t5.{part}": b"good\t1\n" for part in ("train", "dev", "test")}
    with pytest.raises(UserError, match=r"task toys\.t5: no negative reviews"):
        made(write_folder(tmp_path / "arsc", arsc() | gone)).split("test")
