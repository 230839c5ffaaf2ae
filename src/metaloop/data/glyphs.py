"""Letters of five scripts as few-shot classes: the data set that needs no download."""

from collections.abc import Sequence

import numpy as np
import PIL
import torch
from PIL import features

from metaloop.data import glyph_rendering
from metaloop.data.cache import Arrays, cache_folder, cached
from metaloop.data.distribution import SPLITS, Dataset
from metaloop.data.pool import ClassPool
from metaloop.errors import UserError

SCRIPTS_OF = {"train": ("LATIN", "CYRILLIC"), "validation": ("GREEK",), "test": ("ARMENIAN", "GEORGIAN")}
_VERSION = 1  # raise it when the drawing or the rules below change


class Glyphs(Dataset):
    """Letters rendered from the twelve faces of DejaVu Sans, Sans Mono and Serif: 24 drawings of 28x28 pixels a class.

    Whole scripts are held out: Latin and Cyrillic are for meta-training, Greek for meta-validation, Armenian and
    Georgian for meta-test. Letters that look the same in some face are one class; a class belongs to the first of the
    splits, in this order, that one of its letters' scripts belongs to. So no shape of a held-out split was seen before.

    Args:
        cache_dir: where the pictures are kept between runs; None takes METALOOP_CACHE, else ~/.cache/metaloop.
    """

    def __init__(self, cache_dir: str | None = None) -> None:
        self._folder = cache_folder(cache_dir)
        self._splits: dict[str, ClassPool] = {}

    def split(self, name: str) -> ClassPool:
        """See :meth:`Dataset.split`."""
        if name not in SPLITS:
            raise UserError(f"split {name!r}: one of {', '.join(SPLITS)}")
        if name not in self._splits:
            key = f"{_VERSION} {glyph_rendering.font_digest()} {PIL.__version__} {features.version('freetype2')}"
            arrays = cached(self._folder, "glyphs", key, _make)
            self._splits.update({each: _pool(arrays, each) for each in SPLITS})
        return self._splits[name]


def _pool(arrays: Arrays, split: str) -> ClassPool:
    images = torch.from_numpy(arrays[f"{split}_images"])
    classes, drawings = images.shape[:2]
    return ClassPool(images.flatten(0, 1)[:, None], [drawings] * classes, arrays[f"{split}_names"].tolist(), split=split)


def _make() -> Arrays:
    """The pictures and names of every split; a class is drawn and named after its first letter."""
    arrays = {}
    for split, classes in split_classes().items():
        arrays[f"{split}_images"] = glyph_rendering.render([members[0] for members in classes])
        arrays[f"{split}_names"] = np.array(["".join(members) for members in classes])
    return arrays


def split_classes() -> dict[str, list[str]]:
    """The classes of each split, each the string of the letters that are one class, by the rule of :class:`Glyphs`."""
    found = glyph_rendering.letters()
    scripts = {letter: script for script, members in found.items() for letter in members}
    classes: dict[str, list[str]] = {split: [] for split in SPLITS}
    for members in merge_equal(sorted(scripts)):
        seen = {scripts[letter] for letter in members}
        split = next(split for split in SPLITS if seen.intersection(SCRIPTS_OF[split]))
        classes[split].append(members)
    return classes


def merge_equal(letters: Sequence[str]) -> list[str]:
    """Group letters that have the same picture in some face, directly or through others; each group in order."""
    fonts = glyph_rendering.plain_fonts()
    group = {letter: [letter] for letter in letters}
    owner: dict[tuple[int, bytes], str] = {}
    for letter in letters:
        for face, picture in enumerate(glyph_rendering.pictures(letter, fonts)):
            first = group[owner.setdefault((face, picture), letter)]
            if first is not group[letter]:
                first.extend(group[letter])
                group.update(dict.fromkeys(group[letter], first))
    groups = {id(members): "".join(sorted(members)) for members in group.values()}
    return sorted(groups.values())
