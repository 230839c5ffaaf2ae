"""Options of a sweep's execution."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.sweeps.launch.devices import Machine
from metaloop.sweeps.shard import Shard


@dataclass(frozen=True)
class Options:
    """Options of a sweep's execution.

    Attributes:
        directory: folder of the sweep.
        config_dirs: further folders of config groups.
        machine: devices that local runs may use.
        retries: how often a failed run is started again.
        stale: seconds without a heartbeat after which another process takes over a run.
        dry_run: whether to print the runs without starting them.
        keep: whether finished runs whose records are gone stay finished.
        shard: the part of the runs that this process runs; None for all.
        at_once: number of runs at once on a cluster; None for as many as it has room for.
    """

    directory: Path
    config_dirs: Sequence[str]
    machine: Machine
    retries: int
    stale: float
    dry_run: bool
    keep: bool = False
    shard: Shard | None = None
    at_once: int | None = None
