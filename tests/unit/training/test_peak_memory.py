"""The largest memory of a run in its record."""

from pathlib import Path

import pytest

from metaloop.records.reading import read_record
from metaloop.system.memory import MemoryUse
from metaloop.training.processes.peak_memory import over_ranks
from metaloop.training.processes.ranks import launch
from small_runs import trained_all

MB = 2**20


def test_the_machine_or_the_device_that_needs_most_counts() -> None:
    ranks = [("a", MemoryUse(100, 30, 0), 0), ("a", MemoryUse(100, 40, 0), 0), ("b", MemoryUse(150, 40, 0), 0)]
    assert over_ranks(ranks) == 240
    assert over_ranks(ranks[2:]) == 190
    assert over_ranks([("a", MemoryUse(100), 7), ("a", MemoryUse(100), 9), ("b", MemoryUse(100), 8)]) == 9


def taken(directory: Path, ranks: int, *overrides: str) -> int:
    """Train in a process of its own for each rank, and return the record's memory."""
    launch(trained_all, ranks, str(directory), {"run": ["outer.meta_batch=4", *overrides]})
    training = read_record(directory / "run").training
    assert training is not None
    return training.peak_memory_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "where", "overrides"),
    [
        (1, "worker", ["algorithm/over_tasks=workers", "algorithm.over_tasks.processes=2"]),
        (2, "everywhere", ["trainer=ddp_cpu"]),
    ],
)
def test_memory_of_workers_and_ranks_is_in_the_record(ranks: int, where: str, overrides: list[str], tmp_path: Path) -> None:
    """Each process concerned takes 300 MB and keeps them."""
    net = ["model._target_=small_runs.Hungry", f"+model.where={where}"]
    little, much = (
        taken(tmp_path / str(megabytes), ranks, *overrides, *net, f"+model.megabytes={megabytes}") for megabytes in (0, 300)
    )
    assert 0.9 * ranks * 300 * MB < much - little < 1.3 * ranks * 300 * MB
