"""Shares of an outer step's time by kind of operation."""

import time
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

KINDS = {  # an operation belongs to the first kind with a word in its name
    "convolution": ("conv", "mkldnn"),
    "matrix product": ("addmm", "aten::mm", "bmm", "linear"),
    "norm": ("norm", "var_mean"),
    "pooling": ("pool",),
    "element by element, copies and sums": ("aten::",),
}


def by_kind(run: Callable[[], Any]) -> dict[str, float]:
    """Shares of the wall time of ``run`` on this process's main and backward threads; the rest is Python and waiting."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        run()
        wall = time.perf_counter() - start
    shares = dict.fromkeys(KINDS, 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), None)
        if kind and event.key.startswith("aten::"):
            shares[kind] += event.self_cpu_time_total * 1e-6 / wall
    return {**shares, "Python, dispatch and the rest": max(0.0, 1 - sum(shares.values()))}
