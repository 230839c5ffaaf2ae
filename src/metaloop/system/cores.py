"""How many processor cores this process may use."""

import math
import os

from metaloop.system.cgroups import cpu_limit


def available_cores() -> int:
    """Cores that the process may use, at least one: the machine's, less what affinity or a control group takes away."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))
