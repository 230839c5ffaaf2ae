"""Memory of a process and of those that it starts."""

import mmap
import os
from pathlib import Path

import pytest
import torch

from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.workers import Workers
from metaloop.system.memory import MemoryUse, forget_peak, peak
from metaloop.types import Examples, Params, Tasks

MB = 2**20
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what its processes take")


def taken(megabytes: int) -> mmap.mmap:
    """New pages, which no allocator has kept from earlier."""
    pages = mmap.mmap(-1, megabytes * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, len(pages), mmap.PAGESIZE):
        pages[page] = 49
    pages[-1] = 49
    return pages


def hungry(meta: Params, support: Examples, query: Examples, autodiff: Autodiff) -> tuple[Params, Params]:
    """Take as many MB as the process's task says."""
    torch.ones(int(query.x.sum()), MB // 4).sum()
    return {"w": meta["w"]}, {"x": query.x}


def test_a_worker_counts_with_what_it_has_taken_and_until_it_ends() -> None:
    strategy = Workers(processes=2)

    def run(megabytes: int) -> int:
        """Let the other process take so much, and this one nothing."""
        x = torch.tensor([[0.0], [float(megabytes)]])
        strategy.mean_of_gradients(hungry, {"w": torch.ones(1)}, Tasks(Examples(x, x), Examples(x, x), torch.arange(2)))
        return peak().total

    forget_peak()
    alone = peak().total
    try:
        before, after = run(0), run(200)
    finally:
        strategy.close()
    assert before - alone > 50 * MB  # a process with torch in it, whose libraries count once
    assert 195 * MB < after - before < 230 * MB
    assert abs(peak().total - alone) < 50 * MB
    assert abs(strategy.memory_before_close.total - after) < 20 * MB


def test_pages_of_a_fork_count_once_and_what_it_takes_itself_counts() -> None:
    """A worker that draws episodes is a fork, which has the whole data set in common with its parent."""
    forget_peak()
    data = taken(200)
    before = peak().total
    read, write = os.pipe()
    hold, release = os.pipe()
    process = os.fork()
    if not process:
        own = taken(100)
        os.write(write, own[:1])
        os.read(hold, 1)
        os._exit(0)
    os.read(read, 1)
    after = peak().total
    os.write(release, b"1")
    os.waitpid(process, 0)
    for descriptor in (read, write, hold, release):
        os.close(descriptor)
    assert data[-1:] == b"1"
    assert 95 * MB < after - before < 140 * MB


def test_the_highest_level_is_kept_until_it_is_forgotten() -> None:
    forget_peak()
    before = peak().total
    taken(200).close()
    assert 190 * MB < peak().total - before < 260 * MB
    forget_peak()
    assert peak().total < before + 60 * MB


def test_ranks_add_up_but_for_their_libraries() -> None:
    ranks = [MemoryUse(100, 30, 5), MemoryUse(200, 40, 7)]
    assert MemoryUse.of_ranks(ranks) == MemoryUse(300, 40, 12)
    assert MemoryUse.of_ranks(ranks).total == 352
    assert ranks[0].largest(ranks[1]) == ranks[1].largest(ranks[0]) == ranks[1]
