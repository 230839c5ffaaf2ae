"""Time that a run takes to the end of its first outer step."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.system.import_time import IMPORTED

log = logging.getLogger(__name__)


class StartUp(Callback):
    """Callback that measures and logs the time from the start of the process to the end of the first outer step.

    The time includes imports, opening the data set and choosing how tasks are run. A further run in the same process, such
    as a run of a sweep, is measured from its own start. A rank is measured from the start of its own process.

    Attributes:
        seconds: Seconds to the end of the first outer step; None before that.
    """

    _process_measured = False  # whether a run has been measured from the start of this process

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._started = time.monotonic() - (0.0 if StartUp._process_measured else process_age())
        StartUp._process_measured = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure the time once."""
        if self.seconds is None:
            self.seconds = time.monotonic() - self._started
            log.info("first outer step after %.1f s", self.seconds)


def process_age() -> float:
    """Seconds since this process was created or, if the system does not tell, since metaloop was imported."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        created = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc_pid_stat(5), in ticks since boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - created
    except (OSError, AttributeError, ValueError, IndexError):  # no /proc, or no such clock
        age = -1.0
    return age if age >= 0 else time.monotonic() - IMPORTED
