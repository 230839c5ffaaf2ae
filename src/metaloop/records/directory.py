"""A run's directory: claimed by one process at a time, described from its first moment."""

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
    """Hold the directory's lock, which dies with the process, however it dies.

    Raises:
        UserError: another process is running in the directory.
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
    """Write what the run is, before it starts: run.json for the program, config.yaml (``config_text``) for people.

    Raises:
        UserError: the directory holds a run already.
    """
    path = directory / IDENTITY
    if path.exists():
        raise UserError(
            f"{directory} already holds a run: continue it with resume={directory}, or choose another hydra.run.dir"
        )
    write_atomically(directory / "config.yaml", config_text)
    write_json(path, asdict(identity))


def unfinished(root: Path, fingerprint: str) -> Path | None:
    """The newest run below ``root`` with this config's fingerprint that has no record yet."""
    for path in sorted(root.rglob(IDENTITY), key=lambda found: found.stat().st_mtime, reverse=True):
        try:
            identity = read_identity(path.parent)
        except UserError:  # a broken run is not this one
            continue
        if identity.fingerprint == fingerprint and not (path.parent / RECORD).exists():
            return path.parent
    return None
