"""Number of processor cores that this process may use."""

import math
import os

from metaloop.system.cgroups import cpu_limit


def available_cores() -> int:
    """Number of cores that the process may use, at least one, within its CPU affinity and its control group's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))
