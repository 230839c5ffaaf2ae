"""How long a run takes to reach the end of its first outer step."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.system.import_time import IMPORTED

log = logging.getLogger(__name__)


class StartUp(Callback):
    """Seconds from the start of the process to the end of the first outer step that it takes, logged once.

    Imports, the data set and the choice of how tasks are run are all in it. A further run in the same process, such as a
    sweep's, counts from its own start, and a rank that we start from the start of its process.

    Attributes:
        seconds: None before the first outer step.
    """

    _taken = False  # whether a run has counted from the start of this process

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._begun = time.monotonic() - (0.0 if StartUp._taken else process_age())
        StartUp._taken = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the time once."""
        if self.seconds is None:
            self.seconds = time.monotonic() - self._begun
            log.info("first outer step after %.1f s", self.seconds)


def process_age() -> float:
    """Seconds since this process was created; where the system does not say, since metaloop was imported."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        created = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc_pid_stat(5), in ticks since boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - created
    except (OSError, AttributeError, ValueError, IndexError):  # no /proc, or no such clock
        age = -1.0
    return age if age >= 0 else time.monotonic() - IMPORTED
