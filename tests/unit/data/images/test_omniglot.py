"""The Omniglot data set on stand-in archives: splits, turns, cache, and errors before training."""

from pathlib import Path

import numpy as np
import pytest
import torch

from metaloop.data.augmentation import Augmentation
from metaloop.data.images import omniglot as module
from metaloop.data.images.omniglot import Omniglot
from metaloop.data.images.splits import SCHEMES, read_split
from metaloop.errors import UserError

PARTS = read_split("alphabets")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives whose bytes nobody looks into; every image is filled with its character's number modulo 251."""
    reads: list[str] = []

    def read(path: Path, part: str, side: int, resample: str) -> np.ndarray:
        reads.append(path.name)
        first = 0 if part == "background" else 964
        numbers = (np.arange(len(PARTS[part])) + first) % 251
        return np.broadcast_to(numbers[:, None, None, None], (len(numbers), 20, side, side)).astype(np.uint8)

    monkeypatch.setattr(module, "read_characters", read)
    monkeypatch.setattr(module, "test_reads", reads, raising=False)
    for part in PARTS:
        (tmp_path / f"images_{part}.zip").write_text(part)
    return tmp_path


def make(folder: Path, scheme: str = "finn", rotations: str = "none", side: int = 2) -> Omniglot:
    return Omniglot(str(folder), scheme, rotations, side, cache_dir=str(folder / "cache"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_split_holds_its_characters(folder: Path, scheme: str) -> None:
    dataset = make(folder, scheme)
    number = {name: n % 251 for n, name in enumerate(PARTS["background"] + PARTS["evaluation"])}
    for split, names in read_split(scheme).items():
        pool = dataset.split(split)
        assert pool.names == names
        assert set(pool.class_sizes) == {20}
        assert pool.input_shape == (1, 2, 2)
        images = pool.inputs.view(len(names), 20, 4)
        assert torch.equal(images, torch.tensor([number[name] for name in names])[:, None, None].expand(-1, 20, 4).byte())
        assert dataset.split(split) is pool


def test_rotations_as_classes_count_as_published(folder: Path) -> None:
    dataset = make(folder, "vinyals", "classes")
    assert [dataset.split(split).num_classes for split in ("train", "validation", "test")] == [4112, 688, 1692]


def test_prepared_once(folder: Path) -> None:
    reads = module.test_reads
    make(folder).split("train")
    make(folder, "lake", "augment").split("test")
    assert sorted(reads) == ["images_background.zip", "images_evaluation.zip"]
    make(folder, side=3).split("train")
    assert len(reads) == 4
    (folder / "images_background.zip").write_text("another copy")
    make(folder).split("train")
    assert reads[4:] == ["images_background.zip"]


def test_nothing_is_read_before_a_split_is_asked_for(folder: Path) -> None:
    make(folder)
    Omniglot("no such folder")
    assert module.test_reads == []
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("part", PARTS)
def test_either_archive_missing_shows_when_training_opens(folder: Path, part: str) -> None:
    (folder / f"images_{part}.zip").unlink()
    with pytest.raises(UserError, match=r"no such file.*`metaloop data get omniglot` \(licence: MIT\)") as caught:
        make(folder, "lake").split("train")
    assert str(folder / f"images_{part}.zip") in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split_scheme": "fin"}, r"dataset\.split_scheme='fin' must be one of finn, vinyals, lake, minimal1, minimal2"),
        ({"rotations": "all"}, r"dataset\.rotations='all' must be one of none, classes, augment"),
        ({"resample": "bicubic"}, r"dataset\.resample='bicubic' must be one of lanczos, nearest"),
        ({"side": 106}, r"dataset\.side=106 must be a number of pixels from 1 to the original 105"),
        ({"side": 0}, r"dataset\.side=0"),
    ],
)
def test_bad_arguments(arguments: dict[str, str | int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Omniglot("data", **arguments)


def test_unknown_split(folder: Path) -> None:
    with pytest.raises(UserError, match="one of train, validation, test"):
        make(folder).split("dev")


def test_only_images_of_meta_training_are_augmented(folder: Path) -> None:
    data = Omniglot(str(folder), cache_dir=str(folder / "cache"), augmentation=Augmentation(padding=2, rotation=15.0))
    assert [data.split(name).augmentation is None for name in ("train", "validation", "test")] == [False, True, True]
