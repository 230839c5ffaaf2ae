"""Limits of this process that a container or a scheduler sets by control groups (Linux, versions 1 and 2)."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED = 2**60  # bytes; version 1 writes a number of this size or more for "no limit"


def cpu_limit() -> float | None:
    """Number of processors that the process may use at once, such as 1.5; None without a limit."""
    limits = [float(quota) / float(period) for quota, period in _pairs() if quota not in ("max", "-1")]
    return min(limits, default=None)


def _pairs() -> Iterator[tuple[str, str]]:
    """Quota and period of the process's groups, in microseconds."""
    for text in _contents("cpu.max"):
        quota, period = text.split()
        yield quota, period
    quotas, periods = _contents("cpu/cpu.cfs_quota_us"), _contents("cpu/cpu.cfs_period_us")
    yield from zip(quotas, periods, strict=False)


def memory_limit() -> int | None:
    """Number of bytes that the process may use; None without a limit."""
    texts = [*_contents("memory.max"), *_contents("memory/memory.limit_in_bytes")]
    return min((int(text) for text in texts if text != "max" and int(text) < _UNLIMITED), default=None)


def _contents(name: str) -> list[str]:
    """Contents of the file ``name`` in the process's group and in the groups above it, without missing files."""
    texts = []
    for folder in _folders():
        try:
            texts.append((folder / name).read_text().strip())
        except OSError:
            continue
    return texts


def _folders() -> list[Path]:
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    name = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = ROOT / name
    return [group, *(folder for folder in group.parents if folder.is_relative_to(ROOT))]
