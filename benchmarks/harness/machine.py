"""Peak speed of the machine, and its description in a record."""

import os
import time
from collections.abc import Sequence
from typing import Any

import torch


def matrix_product_peak(device: str, seconds: float = 1.0) -> float:
    """Measure the machine's peak in operations per second, with two operations per multiply-add.

    This is the fastest float32 ``torch.mm`` of two square sizes, with torch's default threads.
    """
    best = 0.0
    for side in (1024, 2048):
        a, b = torch.rand(2, side, side, device=device)
        out = torch.empty_like(a)
        end = time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def about(load_before: Sequence[float]) -> dict[str, Any]:
    """Hardware, versions, commit, load before and after, and the variables that change threads and allocation."""
    from metaloop.records.code import framework
    from metaloop.records.environment import hardware, versions

    words = ("OMP_", "MKL_", "MALLOC_", "GOMP_", "LD_PRELOAD", "CUDA_VISIBLE")
    return {
        "hardware": hardware(1),
        "versions": versions(),
        "git": framework(),
        "load_average": {"before": list(load_before), "after": list(os.getloadavg())},
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(words)},
    }
