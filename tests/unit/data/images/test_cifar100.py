"""CIFAR-100's official files: read right, and refused where they are broken, foreign or hostile."""

import hashlib
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metaloop.data.augmentation import Augmentation
from metaloop.data.distribution import SPLITS
from metaloop.data.files.sources import verify
from metaloop.data.images import cifar100_files
from metaloop.data.images.cifar100 import Cifar100
from metaloop.data.images.cifar100_files import FOLDER, read_images
from metaloop.data.images.splits import read_cifar100_split
from metaloop.errors import UserError
from picture_files import cifar_tables, write_cifar

NAMES = sorted(name for names in read_cifar100_split("cifar_fs").values() for name in names)
EACH = {"train": 2, "test": 1}
HELP = r".*metaloop data get cifar100"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two training images and a test image a class."""
    monkeypatch.setattr(cifar100_files, "PARTS", EACH)
    monkeypatch.setattr("metaloop.data.images.cifar100.PARTS", EACH)


@pytest.fixture
def folder(small: None, tmp_path: Path) -> Path:
    return write_cifar(tmp_path / FOLDER, cifar_tables(NAMES, EACH))


def opened(path: Path, **more: Any) -> Cifar100:
    dataset = Cifar100(str(path), cache_dir=str(path / "cache"), **more)
    dataset.split("train")
    return dataset


def packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as an archive that passes for the official one; the folder is gone."""
    path = folder.parent / cifar100_files.ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, FOLDER)
    folder.rename(folder.parent / "elsewhere")
    monkeypatch.setattr(cifar100_files, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize(("scheme", "sizes"), [("cifar_fs", (64, 16, 20)), ("fc100", (60, 20, 20))])
def test_every_class_is_in_one_split(scheme: str, sizes: tuple[int, ...]) -> None:
    splits = read_cifar100_split(scheme)
    assert tuple(len(splits[split]) for split in SPLITS) == sizes
    assert sorted(name for names in splits.values() for name in names) == NAMES


def test_superclasses_of_fc100_are_in_one_split_each() -> None:
    assert {"baby", "boy", "girl", "man", "woman"} <= set(read_cifar100_split("fc100")["test"])


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("scheme", ["cifar_fs", "fc100"])
def test_images_are_those_of_their_class(folder: Path, scheme: str, protocol: int) -> None:
    write_cifar(folder, cifar_tables(NAMES, EACH), protocol)
    dataset = opened(folder.parent, split_scheme=scheme)
    for split in SPLITS:
        pool = dataset.split(split)
        assert pool.input_shape == (3, 32, 32)
        marks = pool.inputs.flatten(1)[:, 0].view(-1, 3)  # type: ignore[union-attr]
        numbers = torch.tensor([NAMES.index(name) for name in pool.names])
        assert torch.equal(marks, (numbers[:, None] + torch.tensor([0, 0, 100])).byte())


def test_an_archive_and_the_folder_itself_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = opened(folder).split("test")
    packed(folder, monkeypatch)
    assert torch.equal(opened(folder.parent).split("test").inputs, pool.inputs)  # type: ignore[arg-type]


def test_arrays_by_columns_are_read(folder: Path) -> None:
    tables = cifar_tables(NAMES, EACH)
    tables["train"][b"data"] = np.asfortranarray(tables["train"][b"data"])
    before = read_images(folder)
    after = read_images(write_cifar(folder, tables))
    assert all(np.array_equal(before[name], after[name]) for name in NAMES)


def test_another_size(folder: Path) -> None:
    assert opened(folder.parent, side=40).split("train").input_shape == (3, 40, 40)


def test_only_training_is_augmented(folder: Path) -> None:
    dataset = opened(folder.parent, augmentation=Augmentation(flip=True))
    assert [dataset.split(split).augmentation is not None for split in SPLITS] == [True, False, False]


def test_the_pool_is_a_memory_map_and_the_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(folder.parent)
    monkeypatch.setattr("metaloop.data.images.cifar100.read_images", lambda place: pytest.fail("read again"))
    opened(folder.parent)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("false",)


class Forged:
    """An array of objects from raw addresses, which would crash numpy."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((1,), np.dtype("u1"), b"12345678")


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("part", ["meta", "train", "test"])
def test_a_hostile_pickle_runs_nothing(folder: Path, part: str, protocol: int) -> None:
    (folder / part).write_bytes(pickle.dumps({b"data": Hostile()}, protocol=protocol))
    with pytest.raises(
        UserError, match=rf"{part}: not a readable pickle of data \(refused: it needs posix\.system, which" + HELP
    ):
        opened(folder.parent)


def test_numpy_itself_is_never_called(folder: Path) -> None:
    (folder / "train").write_bytes(pickle.dumps({b"data": Forged()}, protocol=2))
    with pytest.raises(UserError, match="not a readable pickle"):
        opened(folder.parent)


def spoilt(part: str, key: bytes, value: Any) -> dict[str, dict[bytes, Any]]:
    tables = cifar_tables(NAMES, EACH)
    tables[part][key] = value(tables[part][key]) if callable(value) else value
    return tables


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("meta", b"fine_label_names", [b"apple"], "does not name 100 classes"),
        ("meta", b"fine_label_names", lambda names: [b"aple", *names[1:]], "has no class apple"),
        ("train", b"data", [1, 2], "not an array of uint8"),
        ("train", b"data", lambda data: data.astype(np.int32), "not an array of uint8"),
        ("train", b"data", lambda data: data[:, :-1], "not an array of uint8 with 3072"),
        ("test", b"data", lambda data: data[:-1], "fine_labels is not a list of 99"),
        ("test", b"fine_labels", lambda labels: [1, *labels[1:]], "class 'apple' has 0 images, not 1"),
        ("test", b"fine_labels", "labels", "fine_labels is not a list"),
    ],
)
def test_wrong_contents_are_refused(folder: Path, part: str, key: bytes, value: Any, message: str) -> None:
    write_cifar(folder, spoilt(part, key, value))
    with pytest.raises(UserError, match=message + HELP):
        opened(folder.parent)


def test_a_missing_or_cut_file_is_said(folder: Path) -> None:
    whole = (folder / "train").read_bytes()
    (folder / "train").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train: not a readable pickle" + HELP):
        opened(folder.parent)
    (folder / "train").unlink()
    with pytest.raises(UserError, match=r"train cannot be read" + HELP):
        opened(folder.parent)
    with pytest.raises(UserError, match=r"holds neither a folder cifar-100-python.* nor cifar-100-python\.tar\.gz" + HELP):
        opened(folder / "nowhere")


def test_a_truncated_or_foreign_archive_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(folder, monkeypatch)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"truncated or not the official archive: its MD5 is" + HELP):
        opened(folder.parent)
    monkeypatch.setattr(cifar100_files, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"is not a complete archive" + HELP):
        opened(folder.parent)


def test_verify_knows_the_official_archive(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not verify("cifar100", tmp_path)[0].sound
    path = packed(folder, monkeypatch)
    (tmp_path / "cifar100").mkdir()
    path.rename(tmp_path / "cifar100" / path.name)
    (state,) = verify("cifar100", tmp_path)
    assert state.sound
    assert state.message == "100 classes of 3 images"


@pytest.mark.parametrize(("key", "value"), [("side", 0), ("side", 5000), ("split_scheme", "cifar")])
def test_wrong_arguments_are_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"dataset\.{key}="):
        Cifar100("nowhere", **{key: value})
