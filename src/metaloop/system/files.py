"""Write files atomically: completely or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file so that neither a reader nor a crash sees half of it; make missing folders.

    Args:
        path: Path of the file, which is replaced if it exists.
        content: Content of the file; text is written as UTF-8.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # a file of mkstemp can be read by its owner only
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write(temporary)``, flush its file to the disk and move it over ``path``.

    For files that another library writes, such as torch. The folder must exist.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
