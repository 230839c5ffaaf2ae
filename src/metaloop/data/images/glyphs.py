"""Letters of five scripts as few-shot classes: the data set that needs no download."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import PIL
import torch
from PIL import features

from metaloop.data.distribution import SPLITS
from metaloop.data.images import glyph_rendering
from metaloop.data.pool import ClassPool
from metaloop.data.user.own_pictures import OwnPictures, PictureForm
from metaloop.errors import UserError
from metaloop.system.cache import Arrays, cache_folder, cached

SCRIPTS_OF = {"train": ("LATIN", "CYRILLIC"), "validation": ("GREEK",), "test": ("ARMENIAN", "GEORGIAN")}
_SAME = 0.01  # of the ink
_VERSION = 1  # raise it when the drawing or the rules below change


class Glyphs(OwnPictures):
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

    def own_form(self) -> PictureForm:
        """See :meth:`metaloop.data.user.own_pictures.OwnPictures.own_form`."""
        return PictureForm(glyph_rendering.SIDE, ink=True)


def _pool(arrays: Arrays, split: str) -> ClassPool:
    images = torch.from_numpy(arrays[f"{split}_images"])
    classes, drawings = images.shape[:2]
    return ClassPool(images.flatten(0, 1)[:, None], [drawings] * classes, arrays[f"{split}_names"].tolist(), split=split)


def _make() -> Arrays:
    """The pictures and names of every split; a class is drawn and named after its first letter."""
    found = glyph_rendering.letters()
    scripts = {letter: script for script, members in found.items() for letter in members}
    inks = glyph_rendering.draw(sorted(scripts))
    arrays = {}
    for split, classes in split_classes(merge_equal(inks), scripts).items():
        arrays[f"{split}_images"] = glyph_rendering.render([(one[0], inks[one[0]]) for one in classes])
        arrays[f"{split}_names"] = np.array(classes)
    return arrays


def merge_equal(inks: Mapping[str, glyph_rendering.Inks]) -> list[str]:
    """Group letters that have the same picture in some face, directly or through others.

    Two pictures are the same when they are as wide and as high and differ by less than a hundredth of their ink: some
    letters (Latin turned m, Armenian ayb) are drawn twice by the font's makers with invisible differences.

    Returns:
        One string a group, its letters in order.
    """
    group = {letter: [letter] for letter in inks}
    alike: dict[tuple[int, tuple[int, ...]], list[str]] = defaultdict(list)
    for letter, faces in inks.items():
        for face, ink in enumerate(faces):
            for other in alike[face, ink.shape]:
                if group[other] is not group[letter] and _same(ink, inks[other][face]):
                    group[other].extend(group[letter])
                    group.update(dict.fromkeys(group[letter], group[other]))
            alike[face, ink.shape].append(letter)
    return sorted({"".join(sorted(members)) for members in group.values()})


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.abs(one.astype(np.int32) - other).sum() < _SAME * one.sum(dtype=np.int64)


def split_classes(classes: Sequence[str], scripts: Mapping[str, str]) -> dict[str, list[str]]:
    """The classes of each split by the rule of :class:`Glyphs`; ``scripts`` maps each letter to its script."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for members in classes:
        seen = {scripts[letter] for letter in members}
        splits[next(split for split in SPLITS if seen.intersection(SCRIPTS_OF[split]))].append(members)
    return splits
