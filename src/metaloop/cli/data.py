"""``metaloop data``: show, download and verify data sets."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from metaloop.errors import UserError
from metaloop.system.suggestions import did_you_mean

if TYPE_CHECKING:  # torch, for which a mistyped action should not wait
    from metaloop.data.files.sources import FileState

ACTIONS = ("status", "get", "verify")
_OTHER_WORDS = {"download": ["get"], "fetch": ["get"], "list": ["status"], "ls": ["status"], "check": ["verify"]}


def run(action: str, name: str | None, data_dir: str) -> int:
    """Do an action for one data set or for all, and print one line for each file.

    Args:
        action: ``status``, ``get`` or ``verify``.
        name: Name of the data set; None for all.
        data_dir: Folder of the data.

    Returns:
        Exit status 0.

    Raises:
        UserError: the action or data set is unknown, a download fails, or ``verify`` finds a missing or damaged file.
    """
    if action not in ACTIONS:
        near = did_you_mean(action, ACTIONS, also=_OTHER_WORDS)
        raise UserError(f"data {action}: {near}write metaloop data ACTION [NAME]; actions: {', '.join(ACTIONS)}")
    from metaloop.data.files.sources import SOURCES

    if name is not None and name not in SOURCES:
        near = did_you_mean(name, SOURCES)
        raise UserError(f"data {action} {name}: {near}data sets to download: {', '.join(SOURCES)}; the others need no download")
    names = list(SOURCES) if name is None else [name]
    states = [state for state in _do(action, names, data_dir) if state.source in names]
    for line in _lines(states):
        print(line)
    if action == "status" and any(state.size is None for state in states):
        print(f"download missing files with: metaloop data get --data-dir {data_dir}")
    if action == "verify" and not all(state.sound for state in states):
        raise UserError(f"files are missing or damaged; metaloop data get --data-dir {data_dir} replaces only those")
    return 0


def _do(action: str, names: Sequence[str], data_dir: str) -> list["FileState"]:
    from metaloop.data.files.sources import status, verify

    if action == "status":
        return status(data_dir)
    if action == "verify":
        return [state for name in names for state in verify(name, data_dir)]
    progress = _show_progress if sys.stderr.isatty() else None
    return [state for name in names for state in _get(name, data_dir, progress)]


def _get(name: str, data_dir: str, progress: Callable[[str, int, int | None], None] | None) -> list["FileState"]:
    from metaloop.data.files.sources import SOURCES, get

    source = SOURCES[name]
    print(f"{source.title}\nlicence: {source.origin.licence}", file=sys.stderr)
    return get(name, data_dir, progress)


def _show_progress(name: str, done: int, total: int | None) -> None:
    size = f" of {total / 1e6:.1f}" if total else ""
    end = "\n" if done == total else ""
    print(f"\r{name}: {done / 1e6:.1f}{size} MB", end=end, file=sys.stderr, flush=True)


def _lines(states: Sequence["FileState"]) -> list[str]:
    """Source, state, size, path and message of each file in columns, followed by the licences."""
    rows = [(state.source, _word(state), _size(state.size), str(state.path), state.message) for state in states]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]
    licences = dict.fromkeys(f"{state.source}: {state.licence}" for state in states)
    return lines + [f"licence of {licence}" for licence in licences]


def _word(state: "FileState") -> str:
    if state.size is None:
        return "missing"
    return {None: "present", True: "sound", False: "damaged"}[state.sound]


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"
