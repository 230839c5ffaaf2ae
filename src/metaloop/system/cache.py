"""The cache of results that are kept between runs, with one root folder, one lock and one file format.

An entry of arrays is one file: SHA-256 of the rest, length of a table, the table as JSON (type, shape and place of each array),
then the arrays, each at a multiple of 64 bytes. It is mapped into memory, so that processes share it.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from metaloop.system.files import open_lock, replace_atomically

Arrays = Mapping[str, np.ndarray]
_ALIGN = 64
_DIGEST = 32  # bytes

log = logging.getLogger(__name__)


def cache_folder(cache_dir: str | None) -> Path:
    """Root of the cache: ``cache_dir``, else METALOOP_CACHE, else ``metaloop`` in the user's cache folder."""
    chosen = cache_dir or os.environ.get("METALOOP_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaloop"


def entry(folder: Path, name: str, key: str, suffix: str) -> Path:
    """Path of an entry's file.

    Args:
        folder: Root of the cache.
        name: Kind of entry; the file's name begins with it.
        key: Everything that the contents depend on; another key is another file.
        suffix: Suffix of the file, without the dot.
    """
    return folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.{suffix}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an entry's lock, so that one process makes the entry while others wait. The lock ends with its process.

    Raises:
        OSError: the folder cannot be made or written.
        UserError: the lock is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_lock(path.with_suffix(".lock")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that prepares %s", path.name)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(folder: Path, name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Read the arrays of an entry, or call ``make`` and keep its result. Writing to the arrays changes no file.

    If the folder cannot be written, the arrays are made at every start. For the other arguments see :func:`entry`.
    """
    path = entry(folder, name, key, "arrays")
    arrays = _read(path)
    if arrays is not None:
        return arrays
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(locked(path))
        arrays = _read(path)
        if arrays is None:
            arrays = make()
            with suppress(OSError):  # a read-only folder or a full disk; the arrays are in memory
                replace_atomically(path, partial(_write, arrays))
                arrays = _read(path) or arrays
        return arrays


def _read(path: Path) -> Arrays | None:
    """Map a file into memory, copy on write; None if it is missing, damaged or of another format."""
    try:
        content = np.memmap(path, np.uint8, "c")
    except (OSError, ValueError):
        return None
    if len(content) <= _ALIGN or hashlib.sha256(content[_DIGEST:].data).digest() != content[:_DIGEST].tobytes():
        return None
    size = int.from_bytes(content[_DIGEST:_ALIGN].tobytes(), "little")
    try:
        table = json.loads(content[_ALIGN : _ALIGN + size].tobytes())
    except (ValueError, RecursionError):  # an intact file of another version of metaloop
        return None
    start = _ALIGN + _padded(size)
    try:
        if any(np.dtype(dtype).hasobject for dtype, _, _ in table.values()):  # its bytes would be taken for addresses
            return None
        return {name: np.ndarray(shape, dtype, content.data, start + offset) for name, (dtype, shape, offset) in table.items()}
    except (TypeError, ValueError, AttributeError, MemoryError):  # a table of another version, or made up
        return None


def _write(arrays: Arrays, path: Path) -> None:
    table, offset = {}, 0
    for name, array in arrays.items():
        table[name] = (array.dtype.str, array.shape, offset)
        offset += _padded(array.nbytes)
    head = json.dumps(table).encode()
    parts = [
        np.frombuffer(head, np.uint8),
        *(np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in arrays.values()),
    ]
    pieces: list[bytes | memoryview] = [len(head).to_bytes(_ALIGN - _DIGEST, "little")]
    for part in parts:
        pieces += [part.data, bytes(_padded(len(part)) - len(part))]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    with path.open("wb") as file:
        file.write(digest.digest())
        file.writelines(pieces)


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
