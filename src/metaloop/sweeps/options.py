"""How a sweep is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaloop.sweeps.room import Machine


@dataclass(frozen=True)
class Options:
    """How a sweep is run.

    Attributes:
        directory: of the sweep.
        config_dirs: further folders of configuration groups.
        machine: what local runs may use.
        retries: how often a run that failed is started again.
        stale: seconds of silence after which a run is taken over.
        dry_run: only say what would run.
    """

    directory: Path
    config_dirs: Sequence[str]
    machine: Machine
    retries: int
    stale: float
    dry_run: bool
