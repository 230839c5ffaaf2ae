"""The split files hold what they claim."""

import random
from pathlib import Path

import pytest

from metaloop.data.images import splits as module
from metaloop.data.images.splits import SCHEMES, read_split

PARTS = read_split("alphabets")
BACKGROUND, EVALUATION = set(PARTS["background"]), set(PARTS["evaluation"])


def alphabets(names: tuple[str, ...]) -> set[str]:
    return {name.split("/")[0] for name in names}


def test_the_official_parts() -> None:
    assert (len(BACKGROUND), len(EVALUATION)) == (964, 659)
    assert (len(alphabets(PARTS["background"])), len(alphabets(PARTS["evaluation"]))) == (30, 20)


@pytest.mark.parametrize(
    ("scheme", "counts"),
    [
        ("finn", (1100, 100, 423)),
        ("vinyals", (1028, 172, 423)),
        ("lake", (792, 172, 659)),
        ("minimal1", (111, 25, 659)),
        ("minimal2", (127, 29, 659)),
    ],
)
def test_counts_and_no_overlap(scheme: str, counts: tuple[int, int, int]) -> None:
    splits = read_split(scheme)
    assert tuple(len(splits[name]) for name in ("train", "validation", "test")) == counts
    every = [name for names in splits.values() for name in names]
    assert len(set(every)) == len(every)
    assert set(every) <= BACKGROUND | EVALUATION


def test_every_scheme_is_counted_here() -> None:
    assert set(SCHEMES) == {"finn", "vinyals", "lake", "minimal1", "minimal2"}


def test_finn_is_the_seeded_shuffle_of_sorted_names() -> None:
    order = sorted(BACKGROUND | EVALUATION)
    random.Random(1).shuffle(order)
    splits = read_split("finn")
    assert set(splits["train"]) == set(order[:1100])
    assert set(splits["validation"]) == set(order[1100:1200])
    assert set(splits["test"]) == set(order[1200:])


def test_lake_divides_by_alphabet() -> None:
    splits = read_split("lake")
    assert set(splits["test"]) == EVALUATION
    assert set(splits["train"] + splits["validation"]) == BACKGROUND
    assert not alphabets(splits["train"]) & alphabets(splits["validation"])
    assert splits["validation"] == read_split("vinyals")["validation"]


@pytest.mark.parametrize(
    ("scheme", "five"),
    [
        ("minimal1", {"Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"}),
        ("minimal2", {"Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"}),
    ],
)
def test_minimal_uses_five_background_alphabets(scheme: str, five: set[str]) -> None:
    splits = read_split(scheme)
    assert set(splits["test"]) == EVALUATION
    assert alphabets(splits["train"]) == alphabets(splits["validation"]) == five
    assert set(splits["train"] + splits["validation"]) == {name for name in BACKGROUND if name.split("/")[0] in five}


@pytest.mark.data
def test_vinyals_is_the_published_list(real_data: Path) -> None:
    folder = real_data / "omniglot" / "splits_vinyals"
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        published = (folder / f"{file}.txt").read_text().split()
        ours = [f"{name}/rot{turn:03d}" for name in read_split("vinyals")[split] for turn in (0, 90, 180, 270)]
        assert sorted(published) == sorted(ours)


def test_a_changed_file_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "omniglot_splits").mkdir()
    for scheme in ("finn", "lake"):
        content = (Path(module.__file__).parent / "omniglot_splits" / f"{scheme}.txt").read_bytes()
        (tmp_path / "omniglot_splits" / f"{scheme}.txt").write_bytes(content)
    with (tmp_path / "omniglot_splits" / "finn.txt").open("ab") as file:
        file.write(b"test Latin 1\n")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    assert len(read_split("lake")["test"]) == 659
    with pytest.raises(ValueError, match=r"omniglot_splits/finn\.txt was changed"):
        read_split("finn")
