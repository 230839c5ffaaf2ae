"""Cores and memory as control groups limit them."""

import os
from pathlib import Path

import pytest

from metaloop.system import cgroups
from metaloop.system.cores import available_cores


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this process's group, below one more group."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "root")
    monkeypatch.setattr(cgroups, "MEMBERSHIP", tmp_path / "membership")
    (tmp_path / "membership").write_text("0::/above/own\n")
    folder = tmp_path / "root" / "above" / "own"
    folder.mkdir(parents=True)
    return folder


def test_without_groups_or_limits_there_is_no_limit(group: Path) -> None:
    assert (cgroups.cpu_limit(), cgroups.memory_limit()) == (None, None)
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text("max\n")
    assert (cgroups.cpu_limit(), cgroups.memory_limit()) == (None, None)
    cgroups.MEMBERSHIP.unlink()
    assert (cgroups.cpu_limit(), cgroups.memory_limit()) == (None, None)


def test_the_tightest_limit_of_all_groups_counts(group: Path) -> None:
    (group / "cpu.max").write_text("400000 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (group / "memory.max").write_text("3000\n")
    (group.parent / "memory.max").write_text("max\n")
    assert (cgroups.cpu_limit(), cgroups.memory_limit()) == (1.5, 3000)


def test_groups_of_version_one(group: Path) -> None:
    cgroups.MEMBERSHIP.write_text("4:memory:/docker\n3:cpu,cpuacct:/docker\n")
    for name, text in (("cpu/cpu.cfs_quota_us", "50000"), ("cpu/cpu.cfs_period_us", "100000")):
        (cgroups.ROOT / name).parent.mkdir(exist_ok=True)
        (cgroups.ROOT / name).write_text(text)
    (cgroups.ROOT / "memory").mkdir()
    (cgroups.ROOT / "memory/memory.limit_in_bytes").write_text(str(2**63 - 4096))
    assert (cgroups.cpu_limit(), cgroups.memory_limit()) == (0.5, None)
    assert available_cores() == 1


def test_affinity_and_the_limit_both_count(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5}, raising=False)
    assert available_cores() == 4
    (group / "cpu.max").write_text("250000 100000\n")
    assert available_cores() == 3
