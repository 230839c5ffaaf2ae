"""The directory of a run: a lock for one process at a time, and the run's description."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.reading import read_identity
from metaloop.records.schema import IDENTITY, RECORD, RunIdentity
from metaloop.records.writing import write_json
from metaloop.system.files import write_atomically

LAST, BEST = "last.ckpt", "best.ckpt"  # in its folder "checkpoints"


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the directory's lock during the block. The lock ends with the process, however that ends.

    Raises:
        UserError: another process holds the lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UserError(
                f"another process is running in {directory}; wait for it, or choose hydra.run.dir=... for a second run"
            ) from error
        yield


def describe(directory: Path, identity: RunIdentity, config_text: str) -> None:
    """Write what the run is before it starts: run.json for programs, config.yaml (``config_text``) for people.

    Raises:
        UserError: the directory already holds a run.
    """
    path = directory / IDENTITY
    if path.exists():
        raise UserError(
            f"{directory} already holds a run: continue it with resume={directory}, or choose another hydra.run.dir"
        )
    write_atomically(directory / "config.yaml", config_text)
    write_json(path, asdict(identity))


def unfinished(root: Path, fingerprint: str) -> Path | None:
    """Find the newest run below ``root`` that has this config's fingerprint and no record yet; None if there is none."""
    for path in sorted(root.rglob(IDENTITY), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            identity = read_identity(path.parent)
        except UserError:  # a broken run is not the one to resume
            continue
        if identity.fingerprint == fingerprint and not (path.parent / RECORD).exists():
            return path.parent
    return None
