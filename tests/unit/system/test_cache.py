"""Prepared arrays are read back only when sound."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from metaloop.system.cache import Arrays, cache_folder, cached


class Maker:
    """Counts how often it was needed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"numbers": np.arange(100), "names": np.array(["α", "bc"])}


def ask(folder: Path, maker: Maker, key: str = "k") -> Arrays:
    arrays = cached(folder, "things", key, maker)
    assert arrays["numbers"].tolist() == list(range(100))
    assert arrays["names"].tolist() == ["α", "bc"]
    return arrays


def test_made_once_per_key(tmp_path: Path) -> None:
    maker = Maker()
    for key, calls in (("k", 1), ("k", 1), ("other", 2), ("k", 2)):
        ask(tmp_path / "new" / "folder", maker, key)
        assert maker.calls == calls
    assert [path.suffix for path in sorted((tmp_path / "new" / "folder").iterdir())] == [".arrays", ".lock"] * 2  # nothing else


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b[:-200] + b"?" + b[-199:]])
def test_damage_is_noticed_and_mended(tmp_path: Path, damage) -> None:
    maker = Maker()
    ask(tmp_path, maker)
    (file,) = tmp_path.glob("*.arrays")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    ask(tmp_path, maker)
    assert maker.calls == 2
    assert file.read_bytes() == whole


def test_an_intact_file_of_another_format_is_made_again(tmp_path: Path) -> None:
    maker = Maker()
    ask(tmp_path, maker)
    (path,) = tmp_path.glob("*.arrays")
    content = (5).to_bytes(32, "little") + b"\x80npz?" * 20
    path.write_bytes(hashlib.sha256(content).digest() + content)
    ask(tmp_path, maker)
    assert maker.calls == 2


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    maker = Maker()
    ask(tmp_path / "file" / "cache", maker)
    ask(tmp_path / "file" / "cache", maker)
    assert maker.calls == 2


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    ask(tmp_path, Maker())
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METALOOP_CACHE", str(tmp_path))
    assert cache_folder(None) == tmp_path
    assert cache_folder("elsewhere") == Path("elsewhere")
    monkeypatch.delenv("METALOOP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "metaloop"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache" / "metaloop"


def test_an_entry_is_mapped_and_never_written_to(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    first = cached(tmp_path, "rows", "k", lambda: {"none": np.empty((0, 2)), "rows": rows})["rows"]
    first[0] = -1.0
    again = cached(tmp_path, "rows", "k", lambda: pytest.fail("made again"))
    assert np.array_equal(again["rows"], rows)
    assert again["none"].shape == (0, 2)
    assert again["rows"].ctypes.data % 64 == 0
