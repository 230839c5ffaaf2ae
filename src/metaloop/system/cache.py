"""Prepared arrays on disk: made once, checked by their SHA-256 whenever read, made again if they do not match."""

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]
_DIGEST = 32  # bytes; a cache file is the SHA-256 of its rest, then an uncompressed npz


def cache_folder(cache_dir: str | None) -> Path:
    """``cache_dir``; else the environment's METALOOP_CACHE; else ~/.cache/metaloop."""
    chosen = cache_dir or os.environ.get("METALOOP_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "metaloop"


def cached(folder: Path, name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays that ``make`` gives, kept in ``folder``.

    A folder that cannot be written costs the time of making them at every start and nothing else.

    Args:
        folder: made if need be.
        name: what the arrays are; begins the file's name.
        key: everything they depend on; other keys are other files.
        make: called where no sound file with this key exists.
    """
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.arrays"
    arrays = _read(path)
    if arrays is None:
        arrays = make()
        _write(path, arrays)
    return arrays


def _read(path: Path) -> Arrays | None:
    """What the file holds; None where it is absent, cut short or altered."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    if len(content) <= _DIGEST or hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    with np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _write(path: Path, arrays: Arrays) -> None:
    """Write the whole file under another name, then give it its own: readers see all of it or nothing."""
    packed = io.BytesIO()
    np.savez(packed, **dict(arrays))  # type: ignore[arg-type]
    content = packed.getbuffer()
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        temporary.replace(path)
    except OSError:  # read-only or full: the arrays are in memory, which is all a run needs
        with suppress(OSError):
            temporary.unlink()
