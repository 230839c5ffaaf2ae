"""Prepared pools: made once, checked, resumed after a kill, and nothing silently wrong."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from metaloop.data.files import pool_file
from metaloop.data.files.archives import Unreadable
from metaloop.data.files.pool_file import PART, prepared
from metaloop.errors import UserError

SHAPE = (5 * PART + 7, 1, 2, 2)


def block(first: int, stop: int) -> np.ndarray:
    """Image i is full of i modulo 251."""
    return np.broadcast_to((np.arange(first, stop) % 251).astype(np.uint8)[:, None, None, None], (stop - first, *SHAPE[1:]))


def parts(first: int, stop: int) -> Callable[[], np.ndarray]:
    return partial(block, first, stop)


def counted(made: list[int]) -> pool_file.Parts:
    def read(first: int, stop: int) -> Callable[[], np.ndarray]:
        made.append(first)
        return parts(first, stop)

    return read


def dying(first: int, stop: int) -> Callable[[], np.ndarray]:
    if first == 3 * PART:
        os.kill(os.getpid(), signal.SIGKILL)
    return parts(first, stop)


def expected() -> np.ndarray:
    return block(0, SHAPE[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pool_holds_all_images_and_is_made_once(tmp_path: Path, workers: int) -> None:
    pool = prepared(tmp_path, "numbers", "key", SHAPE, parts, workers)
    assert np.array_equal(pool, expected())
    assert isinstance(pool, np.memmap)
    made: list[int] = []
    assert np.array_equal(prepared(tmp_path, "numbers", "key", SHAPE, counted(made)), expected())
    assert not made
    prepared(tmp_path, "numbers", "another key", SHAPE, counted(made))
    assert len(made) == 6


def test_a_preparation_that_was_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=prepared, args=(tmp_path, "numbers", "key", SHAPE, dying))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    made: list[int] = []
    assert np.array_equal(prepared(tmp_path, "numbers", "key", SHAPE, counted(made)), expected())
    assert made == [3 * PART, 4 * PART, 5 * PART]


def test_only_the_damaged_part_is_made_again(tmp_path: Path) -> None:
    prepared(tmp_path, "numbers", "key", SHAPE, parts)
    (path,) = tmp_path.glob("*.pool")
    content = bytearray(path.read_bytes())
    content[2 * PART * 4 + 3] ^= 1
    path.write_bytes(content)
    made: list[int] = []
    assert np.array_equal(prepared(tmp_path, "numbers", "key", SHAPE, counted(made)), expected())
    assert made == [2 * PART]


def test_a_pool_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    prepared(tmp_path, "numbers", "key", SHAPE, parts)
    (path,) = tmp_path.glob("*.pool")
    os.truncate(path, PART * 4)
    made: list[int] = []
    assert np.array_equal(prepared(tmp_path, "numbers", "key", SHAPE, counted(made)), expected())
    assert PART in made
    assert 0 not in made


def test_a_line_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    prepared(tmp_path, "numbers", "key", SHAPE, parts)
    (notes,) = tmp_path.glob("*.parts")
    notes.write_text(notes.read_text()[:-5])
    (sound,) = tmp_path.glob("*.sound")
    sound.unlink()
    made: list[int] = []
    prepared(tmp_path, "numbers", "key", SHAPE, counted(made))
    assert made == [5 * PART]
    sound.unlink()
    prepared(tmp_path, "numbers", "key", SHAPE, counted(made))
    assert made == [5 * PART]


def faulty(first: int, stop: int) -> np.ndarray:
    if first in (PART, 2 * PART):
        raise Unreadable([(f"bad {first}", "torn")])
    return block(first, stop)


@pytest.mark.parametrize("workers", [0, 1])
def test_all_unreadable_pictures_are_named_and_the_others_kept(tmp_path: Path, workers: int) -> None:
    def some(first: int, stop: int) -> Callable[[], np.ndarray]:
        return partial(faulty, first, stop)

    with pytest.raises(UserError, match=rf"2 of {SHAPE[0]} pictures .* bad {PART} \(torn\); bad {2 * PART} \(torn\)\. Repair"):
        prepared(tmp_path, "numbers", "key", SHAPE, some, workers)
    made: list[int] = []
    prepared(tmp_path, "numbers", "key", SHAPE, counted(made))
    assert made == [PART, 2 * PART]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"file: the prepared images \(0 MB\) cannot be kept there .*dataset\.cache_dir"):
        prepared(blocked, "numbers", "key", SHAPE, parts)


def test_a_sound_pool_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(tmp_path, "numbers", "key", SHAPE, parts)

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(pool_file, "locked", refuse)
    assert np.array_equal(prepared(tmp_path, "numbers", "key", SHAPE, parts), expected())
