"""Archives: what is wrong with one is said with path, command and licence, and nothing is written to disk."""

import stat
import zipfile
from pathlib import Path

import fakes
import numpy as np
import pytest

from metaloop.data.files.archives import Origin, open_archive, read_ink
from metaloop.data.images import omniglot_archives
from metaloop.data.images.omniglot_archives import read_characters, read_runs
from metaloop.errors import UserError

ORIGIN = Origin("omniglot", "MIT")
NAMES = ("Latin/character01", "Latin/character02")
HELP = r".*`metaloop data get omniglot` \(licence: MIT\)"


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Entries of a background part that has two characters, and the belief that this is all of it."""
    monkeypatch.setattr(omniglot_archives, "read_split", lambda scheme: {"background": NAMES})
    return fakes.characters("background", NAMES)


def refuse(path: Path, what: str) -> None:
    with pytest.raises(UserError, match=what + HELP) as caught:
        read_characters(path, "background", 28, "lanczos")
    assert str(path) in str(caught.value)


def test_characters_in_order(tmp_path: Path, two: dict[str, bytes]) -> None:
    path = fakes.write_zip(tmp_path / "a.zip", dict(reversed(two.items())) | {"images_background/": b""})
    images = read_characters(path, "background", 105, "nearest")
    assert images.shape == (2, 20, 105, 105)
    for c in range(2):
        for d in range(20):
            assert np.array_equal(images[c, d], read_ink(fakes.png(20 * c + d), 105, 105, "nearest"))
    assert sorted(tmp_path.iterdir()) == [path]


def test_ink_is_white_on_black_and_smoothed_or_not() -> None:
    whole = read_ink(fakes.png(5), 105, 105, "lanczos")
    assert set(np.unique(whole)) == {0, 255}
    assert whole[75, 12] == 255
    assert whole[0, 0] == 0
    assert set(np.unique(read_ink(fakes.png(5), 105, 28, "nearest"))) == {0, 255}
    smooth = read_ink(fakes.png(5), 105, 28, "lanczos")
    assert smooth.shape == (28, 28)
    assert len(np.unique(smooth)) > 10
    assert abs(smooth.mean() - whole.mean()) < 3


def test_missing(tmp_path: Path) -> None:
    refuse(tmp_path / "none.zip", "no such file")


def test_truncated(tmp_path: Path, two: dict[str, bytes]) -> None:
    path = fakes.write_zip(tmp_path / "a.zip", two)
    path.write_bytes(path.read_bytes()[:-3000])
    refuse(path, "not a whole zip archive")


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>404</html>")
    refuse(tmp_path / "a.zip", "not a whole zip archive")


def test_bits_flipped_inside(tmp_path: Path, two: dict[str, bytes]) -> None:
    path = fakes.write_zip(tmp_path / "a.zip", two)
    content = bytearray(path.read_bytes())
    content[150] ^= 0xFF
    path.write_bytes(content)
    refuse(path, "not a whole zip archive")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda e: e.pop(next(iter(e))), "19 drawings of Latin/character01, not 20"),
        (
            lambda e: e.update(fakes.characters("background", ("Greek/character01",), 1)),
            "1 drawings of Greek/character01, not 0",
        ),
        (lambda e: e.clear(), "0 drawings of Latin/character01, not 20"),
        (lambda e: e.update({next(iter(e)): b"no image"}), "0000_01.png is missing or broken"),
        (lambda e: e.update({next(iter(e)): fakes.png(0)[:-40]}), "0000_01.png is missing or broken"),
        (lambda e: e.update({next(iter(e)): fakes.png(0, 28)}), "28x28 pixels, not 105x105"),
    ],
)
def test_wrong_contents(tmp_path: Path, two: dict[str, bytes], change, what: str) -> None:
    change(two)
    refuse(fakes.write_zip(tmp_path / "a.zip", two), what)


def test_the_other_part(tmp_path: Path, two: dict[str, bytes]) -> None:
    refuse(fakes.write_zip(tmp_path / "a.zip", fakes.characters("evaluation", NAMES)), "not Omniglot's background part")


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_entries_that_point_outside(tmp_path: Path, two: dict[str, bytes], name: str) -> None:
    refuse(fakes.write_zip(tmp_path / "a.zip", two | {name: b"x"}), "points outside the archive")
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refuse(tmp_path / "a.zip", "'link.png' is a link")


def test_bombs_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(2**26 + 1))
    refuse(tmp_path / "a.zip", "unpacks to 67108865 bytes")


def test_a_users_error_inside_is_left_alone(tmp_path: Path) -> None:
    path = fakes.write_zip(tmp_path / "a.zip", {"a": b"x"})
    with pytest.raises(UserError, match=r"^mine$"), open_archive(path, ORIGIN):
        raise UserError("mine")


@pytest.mark.parametrize(
    ("entry", "content", "what"),
    [
        ("run03/class_labels.txt", None, "run03/class_labels.txt is missing or unreadable"),
        ("run03/class_labels.txt", b"one two three\n", "run03/class_labels.txt is missing or unreadable"),
        (
            "run03/class_labels.txt",
            b"run03/test/item01.png run03/training/class01.png\n",
            "does not pair 20 test items",
        ),
        ("run20/test/item05.png", None, "run20/test/item05.png is missing or broken"),
    ],
)
def test_wrong_runs(tmp_path: Path, entry: str, content: bytes | None, what: str) -> None:
    entries = fakes.runs()
    if content is None:
        del entries[entry]
    else:
        entries[entry] = content
    with pytest.raises(UserError, match=what + HELP):
        read_runs(fakes.write_zip(tmp_path / "all_runs.zip", entries), 28, "lanczos")


@pytest.mark.data
def test_the_real_evaluation_part(real_data: Path) -> None:
    images = read_characters(real_data / "omniglot" / "images_evaluation.zip", "evaluation", 28, "nearest")
    assert images.shape == (659, 20, 28, 28)
    assert 0.02 < (images == 255).mean() < 0.2  # ink on a background, not the other way round
