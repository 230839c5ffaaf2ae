"""Memory that a process and those it has started take, from /proc: each page once, however many of them map it."""

import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_ROLLUP = "smaps_rollup"  # what the kernel sums over a process's mappings


@dataclass(frozen=True)
class MemoryUse:
    """Largest resident bytes of processes of one machine.

    Attributes:
        private: pages that one process has for itself, of all processes together.
        files: pages of files such as libraries, which processes share; those of the process that maps most.
        shared: shared memory, through which processes exchange tensors.
    """

    private: int = 0
    files: int = 0
    shared: int = 0

    @property
    def total(self) -> int:
        """Bytes that the machine must have."""
        return self.private + self.files + self.shared

    def largest(self, other: Self) -> Self:
        """The larger of two states of the same processes at different times."""
        return max(self, other, key=lambda memory: memory.total)

    @staticmethod
    def of_ranks(ranks: Iterable["MemoryUse"]) -> "MemoryUse":
        """Memory of ranks of one machine at the same time: all of them map the same libraries, and nothing else in common."""
        each = list(ranks)
        files = max((memory.files for memory in each), default=0)
        return MemoryUse(sum(memory.private for memory in each), files, sum(memory.shared for memory in each))


def peak() -> MemoryUse:
    """Largest memory of this process and its living descendants: the sum of what each has taken at most so far.

    Pages that a process was forked with count for its parent, pages of files for the process that maps most of them, and shared
    memory once. Without /proc it is this process alone.
    """
    if not Path("/proc/self/status").exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return MemoryUse(most if sys.platform == "darwin" else most * 1024)
    each = [memory for process in _tree() if (memory := _of(process)) is not None]
    return MemoryUse(
        sum(memory.private for memory in each),
        max(memory.files for memory in each),
        max(memory.shared for memory in each),
    )


def forget_peak() -> None:
    """Let the largest memory of this process be what it takes now, if the system can; a further run starts from there."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _tree() -> list[int]:
    """Numbers of this process and its living descendants."""
    processes = [os.getpid()]
    for process in processes:
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            with suppress(OSError):  # it has just ended
                processes += map(int, path.read_text().split())
    return processes


def _of(process: int) -> MemoryUse | None:
    """MemoryUse of one process, which may have ended; pages that it shares with its parent are not its own."""
    try:
        status, now = _rows(process, "status"), _rows(process, _ROLLUP)
    except (OSError, ValueError):
        return None
    if "VmHWM" not in status:  # it is ending
        return None
    files, shared = status["RssFile"], status["RssShmem"]
    forked = process != os.getpid()  # what this process was forked with, such as a sweep's imports, it needs itself
    inherited = min(now.get("Anonymous", 0), max(0, now.get("Shared_Dirty", 0) - shared)) if forked else 0
    return MemoryUse(max(0, status["VmHWM"] - files - shared - inherited), files, shared)


def _rows(process: int, name: str) -> dict[str, int]:
    """Rows in kB of a file of /proc, in bytes."""
    rows = (line.split() for line in Path(f"/proc/{process}/{name}").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}
