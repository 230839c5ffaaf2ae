"""Write files whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file so that a reader, or a crash, never meets half of it; folders are made where they are missing.

    Args:
        path: the file; replaced where it exists.
        content: text is written as UTF-8.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes files that only their owner may read
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)``, flush its file to the disk and move it over ``path``.

    For files that somebody else writes, such as torch or a CSV writer. The folder must exist.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is then still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
