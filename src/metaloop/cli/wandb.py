"""``metaloop wandb sync``: send offline runs to Weights & Biases with its own command."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.directory import LOCK
from metaloop.system.files import is_locked

_HEADER = 7  # bytes of a file without records, on which W&B's command fails; it is left by a run that was killed early


def sync(directories: Sequence[Path], *, dry_run: bool, send: Callable[[Path], int] | None = None) -> int:
    """Send each offline folder that was not sent yet, one call for each, and print the results.

    W&B marks a folder that it has sent with a file ``*.wandb.synced``. Running runs are skipped. A folder that cannot be sent
    is tried again by the next call.

    Args:
        directories: Folders to search at any depth.
        dry_run: Whether to print only what would be sent.
        send: Function of a folder that sends it and returns an exit status; None for ``wandb sync``.

    Returns:
        Exit status 0, or 1 if a run could not be sent.

    Raises:
        UserError: a directory does not exist, or there is no API key.
    """
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"wandb sync {directory}: there is no such folder; runs are in folders below outputs/")
    files = [path for directory in directories for path in directory.rglob("offline-run-*/*.wandb")]
    folders = sorted({path.parent.resolve() for path in files if path.stat().st_size > _HEADER})
    unsent = [folder for folder in folders if not _sent(folder)]
    print(f"{len(folders)} offline runs, {len(folders) - len(unsent)} sent already, {len(unsent)} to send", flush=True)
    if unsent and not dry_run and send is None:
        _check_key()
    failed = 0
    for number, folder in enumerate(unsent, start=1):
        if _running(folder):
            result = "is running; send it when it has ended"
        elif dry_run:
            result = "would be sent"
        else:
            status = (send or _by_wandb)(folder)
            failed += not _sent(folder)
            result = "sent" if _sent(folder) else f"FAILED with W&B's exit status {status}"
        print(f"{number:>4}/{len(unsent)} {folder}  {result}", flush=True)
    if failed:
        print(f"{failed} runs could not be sent; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


def _sent(folder: Path) -> bool:
    return any(folder.glob("*.wandb.synced"))


def _running(folder: Path) -> bool:
    """Whether a process holds the lock of the run directory that has this W&B folder."""
    return is_locked(folder.parents[1] / LOCK)


def _check_key() -> None:
    from metaloop.tracking.wandb import has_key

    if not has_key():
        raise UserError(
            "W&B needs an API key to send runs: log in with `wandb login` or set WANDB_API_KEY, then repeat this command; "
            "--dry-run shows what would be sent"
        )


def _by_wandb(folder: Path) -> int:
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
