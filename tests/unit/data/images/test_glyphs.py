"""The embedded letters: whole scripts held out, equal shapes merged, legible, the same every time."""

import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from metaloop.data.episodes import Episodes
from metaloop.data.images import glyph_rendering
from metaloop.data.images import glyphs as module
from metaloop.data.images.glyphs import Glyphs
from metaloop.data.philox import Stream
from metaloop.errors import UserError
from metaloop.types import EpisodeSpec

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def inks() -> dict[str, glyph_rendering.Inks]:
    return glyph_rendering.draw("AΑАЯoοՕgցGΩ")


def scripts(names: tuple[str, ...]) -> set[str]:
    return {unicodedata.name(letter).split()[0] for name in names for letter in name}


def test_splits_hold_their_scripts(glyphs: Glyphs) -> None:
    train, validation, test = (glyphs.split(split) for split in SPLITS)
    assert scripts(validation.names) == {"GREEK"}
    assert scripts(test.names) == {"ARMENIAN", "GEORGIAN"}
    assert {"LATIN", "CYRILLIC"} <= scripts(train.names)
    assert train.num_classes > 800
    assert validation.num_classes > 240
    assert test.num_classes > 100
    letters = "".join(train.names + validation.names + test.names)
    assert len(letters) == len(set(letters)) == sum(map(len, glyph_rendering.letters().values()))


def test_no_shape_is_in_two_splits(glyphs: Glyphs) -> None:
    """Checked anew from the fonts, on pictures drawn apart from the code under test's grouping."""
    where: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {letter: split for split in SPLITS for name in glyphs.split(split).names for letter in name}
    for letter, faces in glyph_rendering.draw(sorted(names)).items():
        for face, ink in enumerate(faces):
            assert where.setdefault((face, ink.shape, ink.tobytes()), names[letter]) == names[letter], letter


def test_equal_letters_are_one_class_of_the_earliest_split(glyphs: Glyphs) -> None:
    train = glyphs.split("train").names
    assert "AΑА" in train
    assert any(set("oοо") <= set(name) for name in train)
    assert any(set("gց") <= set(name) for name in train)  # differ by less than a hundredth of the ink


def test_merging(inks: dict[str, glyph_rendering.Inks]) -> None:
    merged = module.merge_equal(inks)
    assert merged == sorted(merged)
    assert {"AΑА", "oο", "gց", "G", "Ω", "Я"} <= set(merged)
    # one face is enough, and sameness is handed on
    a, b, c = np.full((2, 2), 255, np.uint8), np.full((2, 3), 255, np.uint8), np.full((3, 3), 255, np.uint8)
    assert module.merge_equal({"x": [a, b], "y": [c, b], "z": [c, a]}) == ["xyz"]
    assert module.merge_equal({"x": [a, b], "y": [b, a]}) == ["x", "y"]


def test_a_class_across_scripts_goes_to_the_first_split() -> None:
    of = {"a": "LATIN", "b": "GREEK", "c": "ARMENIAN", "d": "GREEK", "e": "GEORGIAN"}
    assert module.split_classes(["ac", "bc", "d", "e"], of) == {
        "train": ["ac"],
        "validation": ["bc", "d"],
        "test": ["e"],
    }


def test_drawings_are_legible_and_differ(glyphs: Glyphs) -> None:
    for split in SPLITS:
        pool = glyphs.split(split)
        assert pool.input_shape == (1, 28, 28)
        assert set(pool.class_sizes) == {24}
        images = pool.inputs.view(pool.num_classes, 24, 28, 28)
        assert images.dtype == torch.uint8
        assert (images.flatten(2).amax(-1) > 150).all()
        share = (images > 127).float().mean((-1, -2))
        assert (share > 0.008).all()
        assert (share < 0.6).all()
        assert (images[:, :12] != images[:, 12:]).flatten(2).any(-1).all()  # a face is drawn twice, with other jitter
        frame = torch.cat([images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]], -1)
        assert (frame > 127).float().mean() < 0.001  # nothing is cut off


def test_a_class_is_closer_to_itself_than_chance(glyphs: Glyphs) -> None:
    episodes = Episodes(glyphs.split("test"), EpisodeSpec(5, 5, 15), Stream(0, "test"))
    tasks = episodes.tasks(torch.arange(40))
    nearest = torch.cdist(tasks.query.x.flatten(2), tasks.support.x.flatten(2)).argmin(-1)
    accuracy = (tasks.support.y.gather(1, nearest) == tasks.query.y).float().mean()
    assert 0.6 < accuracy < 0.95  # learnable, not trivial


def test_rendering_is_a_pure_function(inks: dict[str, glyph_rendering.Inks], glyphs: Glyphs) -> None:
    pair = glyph_rendering.render([("G", inks["G"]), ("Я", inks["Я"])])
    assert np.array_equal(pair[1:], glyph_rendering.render([("Я", inks["Я"])]))
    train = glyphs.split("train")
    stored = train.inputs.view(-1, 24, 28, 28)[train.names.index("Я")]
    assert np.array_equal(pair[1], stored.numpy())


def test_a_second_start_reads_the_cache(glyphs: Glyphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_render", lambda: pytest.fail("drawn again"))
    again = Glyphs(str(glyphs._folder)).split("test")
    assert torch.equal(again.inputs, glyphs.split("test").inputs)
    assert again is not glyphs.split("test")
    assert glyphs.split("test") is glyphs.split("test")


def test_nothing_is_read_before_a_split_is_asked_for(tmp_path: Path) -> None:
    Glyphs(str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_unknown_split(glyphs: Glyphs) -> None:
    with pytest.raises(UserError, match="one of train, validation, test"):
        glyphs.split("dev")


def test_missing_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(glyph_rendering, "find_spec", lambda name: nowhere)
    with pytest.raises(UserError, match=r"DejaVuSans\.ttf is missing: reinstall matplotlib"):
        Glyphs(str(tmp_path)).split("train")
