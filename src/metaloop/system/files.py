"""Files: written completely or not at all, locks, and the folder of what is this user's alone."""

import errno
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from metaloop.errors import UserError


def state_folder() -> Path:
    """Folder of what this user made and nobody else may hand over: ``metaloop`` in the user's state folder.

    A cache may be shared or received, and holds data only. What is executed, and what decides about trust, lies here.

    Raises:
        OSError: the user has no home folder.
    """
    root = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".local" / "state") / "metaloop"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def open_lock(path: Path) -> IO[bytes]:
    """Open a file that is only locked, and make it if it is missing. Neither its content nor anything behind a link changes.

    Raises:
        UserError: the path is a link, or no plain file.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path} is a link or no plain file, so it cannot be used as a lock; remove it") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is a link or no plain file, so it cannot be used as a lock; remove it")
    return os.fdopen(handle, "r+b", buffering=0)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; False for a link or a missing file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


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


def remove_remains(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed while they wrote into this folder; links stay."""
    for path in folder.glob(".*"):
        process = re.fullmatch(r"\..+\.(?:(\d+)|\w+\.part)", path.name)
        if process is None or path.is_symlink() or not path.is_file():
            continue
        if process[1] is None or not Path("/proc", process[1]).exists():
            path.unlink(missing_ok=True)


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
