"""Pools of images on disk: prepared once, in parts that are checked by their SHA-256, and read through a memory map.

Files of a pool, side by side: ``NAME.pool`` the pixels alone, ``NAME.parts`` a line for every part that was written (its first
image and SHA-256), ``NAME.sound`` size and time of change of the pixels when all parts were last found sound, ``NAME.lock``.
Whoever is killed leaves whole parts behind, and the next start makes the others.
"""

import hashlib
import json
import logging
import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metaloop.data.files.archives import Unreadable
from metaloop.errors import UserError
from metaloop.system.cache import entry, locked
from metaloop.system.files import write_atomically

log = logging.getLogger(__name__)

PART = 256  # images; small enough to lose little, large enough to cost nothing
_NAMED = 5  # faulty pictures that a message names
Read = Callable[[], np.ndarray]
Parts = Callable[[int, int], Read]  # what reads the images [first, stop) as (stop - first, *shape) uint8; picklable for workers


def prepared(folder: Path, name: str, key: str, shape: tuple[int, ...], parts: Parts, workers: int = 0) -> np.ndarray:
    """The pool (images, *shape) uint8 as a read-only memory map, made where no sound one lies in ``folder``.

    Args:
        folder, name, key: see :func:`metaloop.system.cache.entry`.
        shape: (images, channels, height, width).
        parts: see :data:`Parts`; what it gives raises :class:`Unreadable` for images that it cannot read.
        workers: processes that read; 0 reads here.

    Raises:
        UserError: images cannot be read (all are tried first; the message names them), or the folder cannot be written.
    """
    path = entry(folder, name, key, "pool")
    if not _known_sound(path):
        try:
            with locked(path):
                _make_missing(path, shape, parts, workers)
        except OSError as error:
            size = f"{math.prod(shape) / 1e6:,.0f} MB"
            raise UserError(
                f"{folder}: the prepared images ({size}) cannot be kept there ({error.strerror or error}); make room, or "
                "choose another folder with dataset.cache_dir or the environment's METALOOP_CACHE"
            ) from error
    return np.memmap(path, np.uint8, "r", shape=shape)


def _known_sound(path: Path) -> bool:
    """Whether all parts were sound when the file was last changed; its hundreds of megabytes are not read for that."""
    try:
        return bool(json.loads(path.with_suffix(".sound").read_text()) == _stamp(path))
    except (OSError, ValueError):
        return False


def _stamp(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _make_missing(path: Path, shape: tuple[int, ...], parts: Parts, workers: int) -> None:
    if _known_sound(path):  # another process was faster
        return
    size = math.prod(shape)
    for each in (path, path.with_suffix(".parts")):
        if each.is_symlink():  # a cache from elsewhere; nothing is written through it
            each.unlink()
    with path.open("ab") as file:
        if file.tell() != size:
            file.truncate(size)
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk shows now
    starts = range(0, shape[0], PART)
    sound = _sound_parts(path, shape)
    missing = [first for first in starts if first not in sound]
    if missing:
        _make(path, shape, missing, parts, workers, len(starts))
    write_atomically(path.with_suffix(".sound"), json.dumps(_stamp(path)))


def _sound_parts(path: Path, shape: tuple[int, ...]) -> set[int]:
    """The first images of the parts whose pixels are those that were written."""
    try:
        lines = path.with_suffix(".parts").read_text().splitlines()
    except FileNotFoundError:
        return set()
    # A line that was cut short fits no pixels; of two lines for one part the later counts.
    digests = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
    pixels = np.memmap(path, np.uint8, "r", shape=shape)
    starts = range(0, shape[0], PART)
    return {first for first in starts if digests.get(str(first)) == _digest(pixels[first : first + PART])}


def _digest(part: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(part).data).hexdigest()


def _make(path: Path, shape: tuple[int, ...], missing: list[int], parts: Parts, workers: int, total: int) -> None:
    """Read and write the parts that begin at ``missing``, noting each once it is written."""
    faults: list[tuple[str, str]] = []
    log.info("preparing %s images in %s (%s of %s parts are missing)", f"{shape[0]:,}", path, len(missing), total)
    spans = ((first, min(first + PART, shape[0])) for first in missing)
    jobs = (partial(_write, path, first, (stop - first, *shape[1:]), parts(first, stop)) for first, stop in spans)
    with ExitStack() as stack:
        notes = stack.enter_context(path.with_suffix(".parts").open("a"))
        advance = stack.enter_context(_progress(path.stem, shape[0], (total - len(missing)) * PART))
        notes.write("\n")  # after a line that was cut short
        for first, outcome in zip(missing, _done(jobs, workers if len(missing) > 1 else 0, stack), strict=True):
            if isinstance(outcome, str):
                notes.write(f"{first} {outcome}\n")
                notes.flush()
            else:
                faults += outcome
            advance(PART)
    if faults:
        named = "; ".join(f"{name} ({why})" for name, why in faults[:_NAMED])
        more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise UserError(f"{len(faults)} of {shape[0]} pictures cannot be read: {named}{more}. Repair or remove them")


Job = Callable[[], str | list[tuple[str, str]]]


def _done(jobs: Iterator[Job], workers: int, stack: ExitStack) -> Iterator[str | list[tuple[str, str]]]:
    """The jobs' outcomes in order; with workers a few jobs are ahead of the one that is awaited."""
    if not workers:
        yield from (job() for job in jobs)
        return
    # A fresh interpreter each: forking a process that has threads may hang, and what reads images needs no torch.
    context = multiprocessing.get_context("spawn")
    pool = stack.enter_context(ProcessPoolExecutor(workers, context, initializer=_end_with_parent))
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)
    waiting = []
    for job in jobs:
        waiting.append(pool.submit(job))
        if len(waiting) > 4 * workers:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(path: Path, first: int, shape: tuple[int, ...], read: Read) -> str | list[tuple[str, str]]:
    """The SHA-256 of the part that was read and written, or the names of what could not be read and why."""
    try:
        part = read()
    except Unreadable as error:
        return error.faults
    if part.shape != shape or part.dtype != np.uint8:
        raise ValueError(f"a part of shape {part.shape} and type {part.dtype}, not {shape} and uint8")
    with path.open("r+b") as file:
        file.seek(first * math.prod(shape[1:]))
        file.write(np.ascontiguousarray(part).data)
    return _digest(part)


@contextmanager
def _progress(title: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda images: None
        return
    columns = (
        TextColumn(f"preparing {title}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images,"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda images: bar.advance(task, images)
