"""The directory of a run: a lock for one process at a time, and the run's description."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from metaloop.errors import ProcessKilled, UserError
from metaloop.records.reading import read_identity
from metaloop.records.schema import IDENTITY, RECORD, RunIdentity
from metaloop.records.writing import write_json
from metaloop.system.files import open_lock, remove_remains, write_atomically

LAST, BEST = "last.ckpt", "best.ckpt"  # in its folder "checkpoints"
LOCK = ".lock"
CHOICES = "choices.json"  # written after the first outer step
REPORT = "report/index.html"


class InUse(UserError):
    """Another process works in the directory."""


def minutes_checkpoint(minutes: float) -> str:
    """Name the checkpoint that was the best after some minutes of processor time; see ``training/cpu_budget.py``."""
    return f"minutes-{minutes:g}.ckpt"


def minutes_of(name: str) -> float:
    """The minutes in the name of such a checkpoint; 0 for one of another kind."""
    try:
        return float(name.removeprefix("minutes-").removesuffix(".ckpt"))
    except ValueError:
        return 0.0


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the directory's lock during the block. The lock ends with the process, however that ends.

    Raises:
        InUse: another process holds the lock.
        UserError: the lock is a link.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open_lock(directory / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise InUse(
                f"another process is running in {directory}; wait for it, or choose hydra.run.dir=... for a second run"
            ) from error
        for folder in (directory, directory / "checkpoints"):
            remove_remains(folder)
        yield


@contextmanager
def discarded_unless_begun(directory: Path) -> Iterator[None]:
    """Remove what the block leaves in the directory of a new run, if it raises an exception before the first outer step.

    What was there before stays, and so does a run that was stopped by Ctrl-C.
    """
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    before = set() if missing or not directory.is_dir() else set(directory.iterdir())
    try:
        yield
    except ProcessKilled:  # the message says how to continue
        raise
    except Exception:
        if directory.is_dir() and not any((directory / name).exists() for name in (CHOICES, RECORD, "checkpoints")):
            for path in set(directory.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            for folder in missing:
                with suppress(OSError):  # it holds something else
                    folder.rmdir()
        raise


def check_links(directory: Path) -> None:
    """Check that nothing in a folder of results leads outside, so that whatever is written into the folder stays there.

    The folder itself may be a link. The folders of earlier W&B runs are left out: nothing is written into them again, and W&B
    puts links to its own logs there.

    Raises:
        UserError: it has a link to outside, or something that is neither a file nor a folder.
    """
    root = directory.resolve()
    for folder, folders, files in os.walk(root):
        names = (*folders, *files)
        if Path(folder) == root / "wandb":
            folders.clear()
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                if not path.resolve().is_relative_to(root):
                    raise UserError(
                        f"{path} is a link to {path.readlink()}, outside of the folder; nothing is read or written through "
                        f"it. Remove the link, or put a copy of its files in its place"
                    )
            elif not (path.is_dir() or path.is_file()) and path.exists():
                raise UserError(f"{path} is neither a file nor a folder; remove it")


def describe(directory: Path, identity: RunIdentity, config_text: str) -> None:
    """Write what the run is before it starts: run.json for programs, config.yaml (``config_text``) for people.

    Raises:
        UserError: the directory already holds a run.
    """
    check_unused(directory)
    write_atomically(directory / "config.yaml", config_text)
    write_json(directory / IDENTITY, asdict(identity))


def check_unused(directory: Path) -> None:
    """Check that the directory of a new run holds none.

    Raises:
        UserError: it does.
    """
    if (directory / IDENTITY).exists():
        raise UserError(
            f"{directory} already holds a run: continue it with resume={directory}, or choose another hydra.run.dir"
        )


def unfinished(root: Path, fingerprint: str) -> Path | None:
    """Find the newest run below ``root`` that has this config's fingerprint and is not complete; None if there is none."""
    return next((run for run in _alike(root, fingerprint) if not is_complete(run)), None)


def finished(root: Path, fingerprint: str) -> Path | None:
    """Find the newest run below ``root`` that has this config's fingerprint and is complete; None if there is none."""
    return next((run for run in _alike(root, fingerprint) if is_complete(run)), None)


def _alike(root: Path, fingerprint: str) -> Iterator[Path]:
    """Yield the runs below ``root`` that have this config's fingerprint, the newest first."""
    for path in sorted(root.rglob(IDENTITY), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            identity = read_identity(path.parent)
        except UserError:  # a broken run is not the one to resume
            continue
        if identity.fingerprint == fingerprint:
            yield path.parent


def is_complete(directory: Path) -> bool:
    """Whether a run has its record and its report, which is written last."""
    return (directory / RECORD).exists() and (directory / REPORT).exists()
