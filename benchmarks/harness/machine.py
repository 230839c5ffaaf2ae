"""What the machine can do, and what a record says about it."""

import os
import time
from collections.abc import Sequence
from typing import Any

import torch


def matrix_product_peak(device: str, seconds: float = 1.0) -> float:
    """Operations a second, two a multiply-add: the best float32 ``torch.mm`` of two square sizes, with torch's own threads."""
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
    from metaloop.records.environment import git_state, hardware, versions

    words = ("OMP_", "MKL_", "MALLOC_", "GOMP_", "LD_PRELOAD", "CUDA_VISIBLE")
    return {
        "hardware": hardware(1),
        "versions": versions(),
        "git": git_state(),
        "load_average": {"before": list(load_before), "after": list(os.getloadavg())},
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(words)},
    }
