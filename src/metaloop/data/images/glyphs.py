"""Letters of five scripts as few-shot classes, rendered from installed fonts: a data set without a download."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import PIL
import torch
from PIL import features

from metaloop.data.distribution import SPLITS, check_split
from metaloop.data.images import glyph_rendering
from metaloop.data.pool import ClassPool
from metaloop.data.user.images import ImageForm, UserImageDataset
from metaloop.system.cache import Arrays, cache_folder, cached

SCRIPTS_OF = {"train": ("LATIN", "CYRILLIC"), "validation": ("GREEK",), "test": ("ARMENIAN", "GEORGIAN")}
_TOLERANCE = 0.01  # letters that differ by less than this part of their ink are equal
_VERSION = 1  # increase it when the rendering or the rules below change


class Glyphs(UserImageDataset):
    """Letters rendered from the twelve faces of DejaVu Sans, Sans Mono and Serif: 24 drawings of 28x28 pixels a class.

    Splits are by script: Latin and Cyrillic are for meta-training, Greek for meta-validation, Armenian and Georgian for
    meta-test. Letters that look the same in some face form one class. Such a class belongs to the first of the splits, in this
    order, that has the script of one of its letters. So no shape in meta-test was seen before.

    Args:
        cache_dir: folder of the images; None means METALOOP_CACHE, or ``metaloop`` in the user's cache folder.
    """

    def __init__(self, cache_dir: str | None = None) -> None:
        self._folder = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`."""
        check_split(name)
        if name not in self._splits:
            key = f"{_VERSION} {glyph_rendering.font_digest()} {PIL.__version__} {features.version('freetype2')}"
            arrays = cached(self._folder, "glyphs", key, _render)
            self._splits.update({each: _pool(arrays, each) for each in SPLITS})
        return self._splits[name]

    def image_form(self) -> ImageForm:
        """See :meth:`metaloop.data.user.images.UserImageDataset.image_form`."""
        return ImageForm(glyph_rendering.SIDE, mode="ink")


def _pool(arrays: Arrays, split: str) -> ClassPool:
    images = torch.from_numpy(arrays[f"{split}_images"])
    classes, drawings = images.shape[:2]
    return ClassPool(images.flatten(0, 1)[:, None], [drawings] * classes, arrays[f"{split}_names"].tolist(), split=split)


def _render() -> Arrays:
    """Render the images of every split, and name its classes. A class is drawn as its first letter."""
    scripts = {letter: script for script, letters in glyph_rendering.letters().items() for letter in letters}
    inks = glyph_rendering.draw(sorted(scripts))
    arrays = {}
    for split, classes in split_classes(merge_equal(inks), scripts).items():
        arrays[f"{split}_images"] = glyph_rendering.render([(name[0], inks[name[0]]) for name in classes])
        arrays[f"{split}_names"] = np.array(classes)
    return arrays


def merge_equal(inks: Mapping[str, glyph_rendering.Inks]) -> list[str]:
    """Group letters that look the same in some face, directly or through other letters.

    Two letters look the same if their images have the same size and differ by less than a hundredth of their ink. The fonts
    contain some letters twice with invisible differences (Latin turned m and Armenian ayb).

    Returns:
        One string a group, with its letters in order.
    """
    group = {letter: [letter] for letter in inks}
    by_shape: dict[tuple[int, tuple[int, ...]], list[str]] = defaultdict(list)
    for letter, faces in inks.items():
        for face, ink in enumerate(faces):
            for other in by_shape[face, ink.shape]:
                if group[other] is not group[letter] and _look_equal(ink, inks[other][face]):
                    group[other].extend(group[letter])
                    group.update(dict.fromkeys(group[letter], group[other]))
            by_shape[face, ink.shape].append(letter)
    return sorted({"".join(sorted(members)) for members in group.values()})


def _look_equal(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one.astype(np.int32) - other).sum() < _TOLERANCE * one.sum(dtype=np.int64))


def split_classes(classes: Sequence[str], scripts: Mapping[str, str]) -> dict[str, list[str]]:
    """Divide classes by the rule of :class:`Glyphs`; ``scripts`` maps each letter to its script."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for letters in classes:
        class_scripts = {scripts[letter] for letter in letters}
        splits[next(split for split in SPLITS if class_scripts.intersection(SCRIPTS_OF[split]))].append(letters)
    return splits
