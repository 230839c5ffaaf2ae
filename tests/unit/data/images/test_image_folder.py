"""A user's own pictures and mini-ImageNet: read from folders and archives, and what is wrong with them is named."""

import csv
import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import write_zip
from PIL import Image

from metaloop.data.distribution import SPLITS
from metaloop.data.images import mini_imagenet
from metaloop.data.images.image_files import decode
from metaloop.data.images.image_folder import ImageFolder, divide
from metaloop.data.images.mini_imagenet import MiniImageNet
from metaloop.errors import UserError
from picture_files import entries, picture, write_folder

SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}


def opened(path: Path, **more: Any) -> ImageFolder:
    given = {"classes": SHARES, "side": 8, "decoders": 0, "cache_dir": str(path.parent / "cache")} | more
    dataset = ImageFolder(str(path), **given)
    dataset.split("train")
    return dataset


def place(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Path:
    return write_folder(tmp_path / "own", files) if kind == "folder" else write_zip(tmp_path / "own.zip", files)


def marks(dataset: ImageFolder) -> dict[str, list[int]]:
    """The first pixels of each class of all splits."""
    found = {}
    for split in SPLITS:
        pool = dataset.split(split)
        stacks = torch.split(pool.inputs[:, 0, 0, 0], list(pool.class_sizes))  # type: ignore[index]
        found.update({name: stack.tolist() for name, stack in zip(pool.names, stacks, strict=True)})
    return found


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("root", ["", "pictures/"])
def test_a_class_is_a_folder(tmp_path: Path, kind: str, root: str) -> None:
    more = {f"{root}class0/notes.txt": b"x", f"{root}.hidden/1.png": b"x", "__MACOSX/class0/0.png": b"x"}
    dataset = opened(place(tmp_path, kind, entries(root=root) | more))
    assert marks(dataset) == {f"class{c}": [10 * c + e for e in range(4)] for c in range(6)}
    assert [dataset.split(split).num_classes for split in SPLITS] == [2, 2, 2]
    assert dataset.split("train").input_shape == (3, 8, 8)


def test_deflated_archives_and_nested_classes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "own.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (entries(3, root="a/") | entries(3, root="b/")).items():
            archive.writestr(name, content)
    assert set(marks(opened(tmp_path / "own.zip"))) == {f"{root}/class{c}" for root in "ab" for c in range(3)}


def test_splits_by_share_are_a_function_of_the_seed() -> None:
    names = [f"c{i}" for i in range(10)]
    one, same, other = (divide(names, SHARES, seed) for seed in (0, 0, 1))
    assert one == same != other
    assert [len(one[split]) for split in SPLITS] == [5, 2, 3]
    assert sorted(name for split in one.values() for name in split) == names
    assert all(len(part) == 1 for part in divide(names[:3], {"train": 98, "validation": 1, "test": 1}, 0).values())


def test_B15_splits_by_names_and_by_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = place(tmp_path, "zip", entries())
    lists = {"train": ["class5", "class1"], "validation": ["class0"], "test": ["class3"]}
    dataset = opened(path, classes=lists)
    assert {split: list(dataset.split(split).names) for split in SPLITS} == lists
    assert "dataset.classes leaves out 2 of the classes: class2, class4" in caplog.text
    (tmp_path / "splits.csv").write_text("split,class\n" + "".join(f"{s},{c}\n" for s in SPLITS for c in lists[s]))
    by_file = opened(path, split_file=str(tmp_path / "splits.csv"))
    other = "".join(f"{s},{c}\n" for s in SPLITS for c in lists[s]).replace("validation", " Val")  # as in files of texts
    (tmp_path / "others.csv").write_bytes(b"\xef\xbb\xbfsplit,class\n" + other.encode())
    assert marks(opened(path, split_file=str(tmp_path / "others.csv"))) == marks(by_file)
    assert marks(by_file) == marks(dataset) == {f"class{c}": [10 * c + e for e in range(4)] for c in (5, 1, 0, 3)}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"train": ["class0"], "validation": ["clas1"], "test": ["class2"]}, r"no class 'clas1'; did you mean class1"),
        ({"train": ["class0"], "validation": ["class0"], "test": ["class2"]}, "'class0' is named twice"),
        ({"train": ["class0"], "validation": [], "test": ["class2"]}, "no classes for validation"),
        ({"train": 0.5, "validation": ["class0"], "test": 0.5}, "three shares above 0, or three lists"),
        ({"train": 0.5, "validation": 0, "test": 0.5}, "three shares above 0"),
        ({"train": 0.5, "test": 0.5}, "it needs train, validation, test"),
    ],
)
def test_wrong_divisions_are_refused(tmp_path: Path, classes: Any, message: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.classes.*" + message):
        opened(place(tmp_path, "zip", entries()), classes=classes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,split\n", "columns class and split"),
        (b"class,split\nclass0,holdout\n", r"line 2: 'holdout' must be one of train, validation, val, valid, dev, test"),
        (b"class,split\n,train\n", "line 2: no class"),
        (b"class,split\nclass\xe9,train\n", "cannot be read"),
        (b"class,split\nclass9,train\n", "no class 'class9'"),
    ],
)
def test_wrong_split_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "splits.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"dataset\.split_file=.*" + message):
        opened(place(tmp_path, "zip", entries()), split_file=str(tmp_path / "splits.csv"))


BROKEN = {"text": b"no picture", "cut": picture(3, (40, 40), "JPEG")[:300], "empty": b""}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("fault", BROKEN)
def test_unreadable_pictures_are_named(tmp_path: Path, kind: str, fault: str) -> None:
    files = entries() | {"pictures/class2/bad.jpg": BROKEN[fault], "pictures/class4/worse.png": b"x"}
    with pytest.raises(UserError, match=r"2 of 26 pictures .*class2/bad\.jpg \(.*class4/worse\.png \(.*Repair or remove"):
        opened(place(tmp_path, kind, files))


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    path = place(tmp_path, "zip", entries())
    content = bytearray(path.read_bytes())
    content[content.index(entries()["pictures/class1/2.png"]) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"class1/2\.png \(its checksum is wrong"):
        opened(path)


@pytest.mark.parametrize("name", ["../class0/0.png", "/class0/0.png", "a/../../0.png", "..\\0.png"])
def test_archives_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"points outside the archive\. Set dataset\.path to"):
        opened(place(tmp_path, "zip", entries() | {name: picture(0)}))


def test_a_truncated_or_absent_archive_is_refused(tmp_path: Path) -> None:
    path = place(tmp_path, "zip", entries())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"own\.zip: not a whole zip archive.*dataset\.path"):
        opened(path)
    with pytest.raises(UserError, match="no such folder or archive"):
        opened(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no images"):
        opened(place(tmp_path, "folder", {"a/b.txt": b"x"}))
    with pytest.raises(UserError, match=r"dataset\.path is not set"):
        ImageFolder(None, SHARES)


def test_a_picture_beside_the_classes_is_of_none(tmp_path: Path) -> None:
    for stray in ("pictures/stray.png", "stray.png"):
        with pytest.raises(UserError, match=r"stray\.png is beside the folders of classes"):
            opened(place(tmp_path, "zip", entries() | {stray: picture(1)}))


def test_a_changed_picture_is_read_again(tmp_path: Path) -> None:
    path = place(tmp_path, "folder", entries())
    opened(path)
    (path / "pictures/class1/0.png").write_bytes(picture(200))
    assert marks(opened(path))["class1"] == [200, 11, 12, 13]


def test_folders_that_agree_in_names_sizes_and_times_are_two(tmp_path: Path) -> None:
    for name, shift in (("a", 0), ("b", 100)):
        files = {f"class{c}/{e}.bmp": picture(10 * c + e + shift, kind="BMP") for c in range(6) for e in range(4)}
        for path in write_folder(tmp_path / name, files).rglob("*.bmp"):
            os.utime(path, (1, 1))
    one, other = (marks(opened(tmp_path / name)) for name in ("a", "b"))
    assert other == {name: [mark + 100 for mark in found] for name, found in one.items()}


def packed(image: Image.Image, kind: str, **more: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **more)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind: str) -> None:
    values = np.uint16([[0, 300, 257 * 100], [257 * 101 + 128, 257 * 200, 65535], [0, 0, 0]])
    found = decode(packed(Image.fromarray(values), kind), 3, "crop", "nearest")
    assert found[0].tolist() == [[0, 1, 100], [101, 200, 255], [0, 0, 0]]
    assert decode(packed(Image.fromarray(values), kind), 3, "crop", "nearest", mode="ink")[0, 0].tolist() == [255, 254, 155]


def test_a_transparent_grey_of_sixteen_bits_is_white() -> None:
    values = np.uint16([[0, 257 * 9], [257 * 9, 257 * 8]])
    found = decode(packed(Image.fromarray(values), "PNG", transparency=257 * 9), 2, "crop", "nearest", white=65535)
    assert found[0].tolist() == [[0, 255], [255, 8]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pictures_of_numbers_without_a_range_are_named(tmp_path: Path, dtype: type) -> None:
    odd = packed(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(UserError, match=r"class0/odd\.tif.*more than 8 bits a channel"):
        opened(place(tmp_path, "folder", entries() | {"pictures/class0/odd.tif": odd}))


def test_pictures_become_upright_squares_over_white() -> None:
    wide = Image.fromarray(np.repeat(np.uint8([[0] * 10 + [100] * 10 + [0] * 10]), 10, 0))
    assert np.array_equal(decode(packed(wide, "PNG"), 10, "crop", "nearest"), np.full((3, 10, 10), 100))
    stretched = decode(packed(wide, "PNG"), 3, "stretch", "nearest")
    assert stretched[0].tolist() == [[0, 100, 0]] * 3
    clear = decode(packed(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"), 4, "crop", "nearest")
    assert (clear == 255).all()
    turned = Image.new("L", (16, 16))
    turned.paste(255, (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright = decode(packed(turned, "JPEG", exif=exif), 16, "crop", "nearest")
    assert upright[0, :6].max() < 60
    assert upright[0, 10:].min() > 200


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The official layout with 2, 1 and 1 classes of three pictures."""
    monkeypatch.setattr(mini_imagenet, "CLASSES", {"train": 2, "validation": 1, "test": 1})
    monkeypatch.setattr(mini_imagenet, "EACH", 3)
    files, number = {}, 0
    for name, classes in (("train", 2), ("val", 1), ("test", 1)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "label"])
            for c in range(classes):
                for _ in range(3):
                    writer.writerow([f"n{number}.jpg", f"n{name}{c}"])
                    files[f"images/n{number}.jpg"] = picture(20 * number, kind="JPEG")
                    number += 1
    write_folder(tmp_path, files)
    return tmp_path


def opened_mini(folder: Path, **more: Any) -> MiniImageNet:
    dataset = MiniImageNet(str(folder), side=8, decoders=0, cache_dir=str(folder / "cache"), **more)
    dataset.split("train")
    return dataset


def test_mini_imagenet_from_a_folder_or_an_archive(mini: Path) -> None:
    dataset = opened_mini(mini)
    assert [dataset.split(split).names for split in SPLITS] == [("ntrain0", "ntrain1"), ("nval0",), ("ntest0",)]
    pixels = dataset.split("validation").inputs[:, 0, 0, 0].int()  # type: ignore[index]
    assert (pixels - torch.tensor([120, 140, 160])).abs().max() < 3
    files = {f"x/{path.name}": path.read_bytes() for path in (mini / "images").iterdir()}
    archive = write_zip(mini / "other.zip", files)
    again = opened_mini(mini, images=str(archive)).split("validation")
    assert torch.equal(again.inputs, dataset.split("validation").inputs)  # type: ignore[arg-type]


def test_B15_a_list_of_mini_imagenet_may_begin_with_a_byte_order_mark(mini: Path) -> None:
    names = opened_mini(mini).split("train").names
    (mini / "train.csv").write_bytes(b"\xef\xbb\xbf" + (mini / "train.csv").read_bytes())
    assert opened_mini(mini).split("train").names == names


def test_a_picture_of_mini_imagenet_is_not_taken_for_another_of_its_name(mini: Path) -> None:
    write_folder(
        mini / "images", {"copy/n4.jpg": picture(9, kind="JPEG"), "copy/other.jpg": picture(9), "other.jpg": picture(9)}
    )
    with pytest.raises(UserError, match=r"holds several images of the name n4\.jpg"):
        opened_mini(mini)


def test_a_missing_picture_or_class_of_mini_imagenet_is_named(mini: Path) -> None:
    (mini / "images" / "n4.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 images of the lists: n4\.jpg.*no download command"):
        opened_mini(mini)
    lines = (mini / "train.csv").read_text().splitlines()
    (mini / "train.csv").write_text("\n".join(lines[:4]))
    with pytest.raises(UserError, match=r"train\.csv: names 1 classes, not 2"):
        opened_mini(mini)
    (mini / "train.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match="ntrain1 has 2 images, not 3"):
        opened_mini(mini)
    (mini / "train.csv").write_text("\n".join(lines).replace("ntrain1", "nval0"))
    with pytest.raises(UserError, match=r"val\.csv: class nval0 is also in another split"):
        opened_mini(mini)
    (mini / "train.csv").write_text("name,class\n")
    with pytest.raises(UserError, match="first line must be filename,label"):
        opened_mini(mini)
    (mini / "train.csv").unlink()
    with pytest.raises(UserError, match=r"train\.csv: cannot be read"):
        opened_mini(mini)


@pytest.mark.parametrize(("key", "value"), [("side", 0), ("fit", "pad"), ("decoders", -1)])
def test_wrong_arguments_are_refused(key: str, value: Any) -> None:
    for build in (lambda **more: MiniImageNet("x", **more), lambda **more: ImageFolder("x", SHARES, **more)):
        with pytest.raises(UserError, match=rf"dataset\.{key}="):
            build(**{key: value})
