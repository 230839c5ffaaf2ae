"""``metaloop wandb sync``: send what was logged offline to Weights & Biases, by its own command."""

import fcntl
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from metaloop.errors import UserError

_FOLDER = re.compile(r"offline-run-(?P<time>\d{8}_\d{6})-(?P<id>.+)")

Send = Callable[[Sequence[Path]], int]


def sync(directories: Sequence[Path], *, dry_run: bool, send: Send | None = None) -> int:
    """Send each run's offline folders that were not sent yet, in the order of time, and say so.

    W&B marks a folder that it has sent with a file ``*.wandb.synced``; such folders are left out. A run that is
    running, and one that cannot be sent, wait for the next time.

    Args:
        directories: to look in, at any depth.
        dry_run: only say what would be sent.
        send: takes one run's folders and returns an exit status; None: ``wandb sync``.

    Returns:
        0; 1 where a run could not be sent.

    Raises:
        UserError: a directory does not exist, or there is no API key.
    """
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"wandb sync {directory}: there is no such folder; runs lie under outputs/")
    runs = {identity: _unsent(folders) for identity, folders in _offline_runs(directories).items()}
    todo = {identity: folders for identity, folders in runs.items() if folders}
    print(f"{len(runs)} offline runs, {len(runs) - len(todo)} sent already, {len(todo)} to send", flush=True)
    if todo and not dry_run and send is None:
        _check_key()
    failed = 0
    for number, (identity, folders) in enumerate(todo.items(), start=1):
        if _running(folders[-1]):
            said = "is running; send it when it has ended"
        elif dry_run:
            said = "would be sent"
        else:
            status = (send or _by_wandb)(folders)
            left = _unsent(folders)
            failed += bool(left)
            said = f"FAILED: W&B's exit status was {status}, {len(left)} of its folders are not sent" if left else "sent"
        print(
            f"{number:>4}/{len(todo)} {identity}  {said}", *(f"          {folder}" for folder in folders), sep="\n", flush=True
        )
    if failed:
        print(f"{failed} runs could not be sent; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


def _offline_runs(directories: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Folders by W&B id, each run's in the order of time.

    ``latest-run``, a link to one of them, does not count, nor does one in which there is nothing to send: W&B would send
    nothing of its run.
    """
    from metaloop.tracking.loggers import can_be_sent

    found: dict[Path, tuple[str, str]] = {}
    for directory in directories:
        for path in directory.rglob("offline-run-*"):
            named = _FOLDER.fullmatch(path.name)
            if named and any(map(can_be_sent, path.glob("*.wandb"))):
                found[path.resolve()] = named["time"], named["id"]
    runs: dict[str, list[Path]] = {}
    for path, (_, identity) in sorted(found.items(), key=lambda item: (item[1], item[0])):
        runs.setdefault(identity, []).append(path)
    return runs


def _unsent(folders: Sequence[Path]) -> list[Path]:
    return [folder for folder in folders if not any(folder.glob("*.wandb.synced"))]


def _running(folder: Path) -> bool:
    """Whether a process holds the lock of the run directory that has this W&B folder."""
    try:
        with (folder.parents[1] / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:  # not a run of ours
        return False
    except BlockingIOError:
        return True
    return False


def _check_key() -> None:
    from metaloop.tracking.loggers import has_key

    if not has_key():
        raise UserError(
            "W&B has no API key to send runs with: log in with `wandb login`, or set WANDB_API_KEY, then give this command "
            "again; --dry-run says what would be sent"
        )


def _by_wandb(folders: Sequence[Path]) -> int:
    """W&B's command sends several folders of one run one after another as one run; its words go to the screen."""
    return subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, folders)], stdin=subprocess.DEVNULL, check=False
    ).returncode
