"""Limits that a container or a scheduler sets for this process by control groups (Linux, versions 1 and 2)."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED = 2**60  # bytes; version 1 writes a number of this size where there is no limit


def cpu_limit() -> float | None:
    """Processors that the process may use at once, such as 1.5; None where there is no limit."""
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
    """Bytes that the process may use; None where there is no limit."""
    texts = [*_contents("memory.max"), *_contents("memory/memory.limit_in_bytes")]
    return min((int(text) for text in texts if text != "max" and int(text) < _UNLIMITED), default=None)


def _contents(name: str) -> list[str]:
    """What the file ``name`` says in the process's own group and in the groups above it; nothing where there is none."""
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
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = ROOT / own
    return [group, *(folder for folder in group.parents if folder.is_relative_to(ROOT))]
