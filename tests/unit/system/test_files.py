"""Locks that follow no link, and text that a terminal may show."""

import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest

from metaloop.errors import UserError
from metaloop.system.cache import cached, entry, locked
from metaloop.system.files import is_locked, open_lock
from metaloop.system.terminal import printable


def test_E11_a_lock_that_is_a_link_is_neither_opened_nor_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "dangling", "pipe", "folder"):
        with pytest.raises(UserError, match=f"{name} is a link or no plain file"):
            open_lock(tmp_path / name)
        assert not is_locked(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "entry.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="remove it"), locked(tmp_path / "entry.pool"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_lock_keeps_its_content_and_is_seen(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("kept")
    with open_lock(tmp_path / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == "kept"


@pytest.mark.parametrize("dtype", ["|O", "nonsense", 5, [["a", "|O"]], "<f8"])
def test_E1_a_cache_from_elsewhere_gives_no_objects(dtype: object, tmp_path: Path) -> None:
    import hashlib

    table = json.dumps({"rows": (dtype, [10**6] if dtype == "<f8" else [2], 0)}).encode()
    body = len(table).to_bytes(32, "little") + table + bytes(-len(table) % 64) + bytes(128)
    path = entry(tmp_path, "x", "key", "arrays")
    path.write_bytes(hashlib.sha256(body).digest() + body)
    made = cached(tmp_path, "x", "key", lambda: {"rows": np.arange(3)})
    assert made["rows"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x9b2J\x07\r\x00", r"\x9b2J\x07\r\x00"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("lone \udcff", r"lone \udcff"),
        ("Zeilen\n\tund Zeichen: ä 日本 ± é\u0301 👩\u200d🔬", "Zeilen\n\tund Zeichen: ä 日本 ± é\u0301 👩\u200d🔬"),
    ],
)
def test_E11_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
