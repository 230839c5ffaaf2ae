"""Small random folders of odd pictures: no class is in two splits, what is left out is named, and prediction reads alike."""

import io
import logging
import os
import re
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fakes import write_zip
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from metaloop.data.distribution import SPLITS
from metaloop.data.images.image_folder import ImageFolder
from metaloop.data.labels import plain_name
from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError

EXAMPLES = 20
CLASSES = (
    "ant",
    "Ant",
    "ant ",
    "caf\u00e9",
    "cafe\u0301",
    "1",
    "1.0",
    "a  b",
    "a b",
    "train",
    "True",
    "true",
    "z\u200bz",
    "zz",
)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")
NAMES = ("{}.png", "{}.PNG", "{}", "{}.jfif", "{}.v2", "{}.tiff")
FOLDERS = {
    "train": ("train", "Training", "train_set"),
    "validation": ("val", "Valid", "dev"),
    "test": ("test", "Testing", "eval"),
}
SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}

picture = st.tuples(st.sampled_from(MODES), st.sampled_from(NAMES), st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
classes = st.dictionaries(st.sampled_from(CLASSES), st.lists(picture, min_size=1, max_size=4), min_size=1, max_size=6)
odd = st.sets(st.sampled_from(("text", "hidden", "pipe", "dangling", "copy", "empty")))


def encoded(mode: str, name: str, width: int, height: int, mark: int) -> bytes:
    """A picture; pictures of one mark, mode and size are equal."""
    pixels = np.random.default_rng(mark).integers(0, 256, (height, width), np.uint8)
    content = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(pixels.astype(np.uint16) * 100 + 40000).save(content, "PNG")
    else:
        kind = "TIFF" if name.endswith(".tiff") else "JPEG" if mode == "CMYK" else "PNG"
        Image.fromarray(pixels).convert("RGB").convert(mode).save(content, kind)
    return content.getvalue()


def write(root: Path, parts: dict[str, dict[str, list[tuple[str, str, int, int, int]]]], odds: set[str]) -> dict[str, bytes]:
    """Write the pictures of each class of each part; return the files by their relative names."""
    files = {}
    for part, own in parts.items():
        for label, pictures in own.items():
            for number, (mode, name, *more) in enumerate(pictures):
                files[f"{part}{label}/{name.format(number)}"] = encoded(mode, name, *more)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    folder = (root / next(iter(files))).parent
    if "text" in odds:
        (folder / "notes.txt").write_text("notes")
    if "hidden" in odds:
        (folder / ".hidden.png").write_bytes(b"x")
    if "pipe" in odds:
        os.mkfifo(folder / "pipe.png")
    if "dangling" in odds:
        (folder / "gone.png").symlink_to("nowhere")
    if "copy" in odds:
        (folder.parent / "copy of a class").symlink_to(folder)
    if "empty" in odds:
        (folder.parent / "no picture").mkdir()
    return files


SAID = {
    "text": "1 other files are ignored (.txt 1)",
    "pipe": "1 skipped that are no files, but pipes, devices or sockets",
    "dangling": "1 skipped that lead nowhere",
    "copy": "1 skipped that lead to what is read already",
    "empty": "1 folders hold no image that can be read",
}


@contextmanager
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("metaloop.data"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def opened(path: Path, rule: str = "auto") -> ImageFolder:
    cache = str(path.parent / "cache")
    return ImageFolder(str(path), SHARES, split_folders=rule, side=3, fit="stretch", decoders=0, cache_dir=cache)


def stored(dataset: ImageFolder) -> dict[str, tuple[str, list[bytes]]]:
    """The split and the sorted pictures of each class; fails if a class is in two splits."""
    found = {}
    for split in SPLITS:
        pool = dataset.split(split)
        rows = [row.numpy().tobytes() for row in pool.inputs]  # type: ignore[union-attr]
        for label, size in zip(pool.names, pool.class_sizes, strict=True):
            assert label not in found
            found[label] = (split, sorted(rows[:size]))
            rows = rows[size:]
        assert not rows
    return found


def predicted(dataset: ImageFolder, path: Path) -> dict[str, list[bytes]]:
    rows = dataset.read_user_file(path, Columns(), (3, 3, 3), labelled=True)
    found = defaultdict(list)
    for label, row in zip(rows.labels, rows.inputs, strict=True):  # type: ignore[arg-type]
        found[label].append(row.numpy().tobytes())
    return {str(label): sorted(images) for label, images in found.items()}


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=(Phase.generate,))
@given(classes, odd, st.sampled_from(("", "own/", "own/data/")))
def test_folders_of_classes(own: dict[str, list[tuple[str, str, int, int, int]]], odds: set[str], top: str) -> None:
    with tempfile.TemporaryDirectory() as folder, logged() as lines:
        files = write(root := Path(folder) / "root", {top: own}, odds)
        wanted = Counter(plain_name(name.removeprefix(top).split("/")[0]) for name in files)
        if len(wanted) < 3:
            lone = set(wanted) == {"train"}
            with_error(opened(root), "folders of splits hold images" if lone else f"{len(wanted)} classes cannot be divided")
            return
        found = stored(opened(root))
        assert {label: len(images) for label, (_, images) in found.items()} == wanted
        for kind in odds - {"hidden"}:
            assert any(SAID[kind] in line for line in lines), (kind, lines)
        assert predicted(opened(root), root) == {label: images for label, (_, images) in found.items()}
        assert stored(opened(write_zip(Path(folder) / "root.zip", files))) == found


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=(Phase.generate,))
@given(st.tuples(classes, classes, classes), odd, st.tuples(*(st.sampled_from(FOLDERS[split]) for split in SPLITS)))
def test_folders_of_splits(
    parts: tuple[dict[str, list[tuple[str, str, int, int, int]]], ...], odds: set[str], names: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory() as folder, logged() as lines:
        files = write(root := Path(folder) / "root", {f"{name}/": own for name, own in zip(names, parts, strict=True)}, odds)
        split_of = defaultdict(set)
        for name in files:
            split_of[plain_name(name.split("/")[1])].add(SPLITS[names.index(name.split("/")[0])])
        counts = Counter(plain_name(name.split("/")[1]) for name in files)
        if any(len(splits) > 1 for splits in split_of.values()):
            with_error(opened(root), "dataset.split_folders=merge")
            if len(counts) >= 3:
                merged = stored(opened(root, "merge"))
                assert {label: len(images) for label, (_, images) in merged.items()} == counts
                assert predicted(opened(root, "merge"), root) == {label: images for label, (_, images) in merged.items()}
            return
        found = stored(opened(root))
        assert {label: (split, len(images)) for label, (split, images) in found.items()} == {
            label: (*splits, counts[label]) for label, splits in split_of.items()
        }
        for kind in odds - {"hidden"}:
            assert any(SAID[kind] in line for line in lines), (kind, lines)
        assert predicted(opened(root), root) == {label: images for label, (_, images) in found.items()}


def with_error(dataset: ImageFolder, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        dataset.split("train")


def test_the_names_of_the_classes_are_odd_indeed() -> None:
    assert len({plain_name(name) for name in CLASSES}) == 8
    assert len({unicodedata.normalize("NFKC", name).strip().casefold() for name in CLASSES}) > 8
