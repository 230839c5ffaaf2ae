"""Resident memory of a process and its descendants, from /proc: the level now and the highest so far."""

import ctypes
import os
from pathlib import Path


def tree() -> list[int]:
    """Ids of this process and its living descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    processes = [os.getpid()]
    for process in processes:
        processes += [child for child, parent in parents.items() if parent == process]
    return processes


def _status(process: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def level() -> int:
    """Resident bytes of all processes of the tree now; shared memory counts for each process."""
    return sum(_status(process, "VmRSS:") for process in tree())


def peak() -> int:
    """Sum of the processes' highest levels since their start or since `forget_peak`, in bytes."""
    return sum(_status(process, "VmHWM:") for process in tree())


def forget_peak() -> None:
    """Return freed memory to the system if the allocator can, and reset the highest level."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    for process in tree():
        Path(f"/proc/{process}/clear_refs").write_text("5")
