"""Resident memory of a process and those it started, from /proc: the level and the highest level so far."""

import ctypes
import os
from pathlib import Path


def tree() -> list[int]:
    """This process and its living descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def _status(process: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def level() -> int:
    """Bytes resident now, all processes of the tree; what they share counts in each."""
    return sum(_status(process, "VmRSS:") for process in tree())


def peak() -> int:
    """The sum of the processes' highest levels since they started or since `forget_peak`, in bytes."""
    return sum(_status(process, "VmHWM:") for process in tree())


def forget_peak() -> None:
    """Give freed memory back to the system where the allocator can, and start the highest level anew."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    for process in tree():
        Path(f"/proc/{process}/clear_refs").write_text("5")
