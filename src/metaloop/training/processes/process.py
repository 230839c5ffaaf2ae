"""Set-up of a process that trains or tests, the same for every command."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.system.devices import allow_tf32


def set_up(*, tf32: bool) -> None:
    """Silence Lightning's messages and allow or forbid TensorFloat-32 (config key ``tf32``)."""
    allow_tf32(tf32)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # drawing episodes needs no workers
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")  # Slurm is installed but not used
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")  # Lightning uses a deprecated name of torch


class KeptSigterm(Callback):
    """Callback that keeps the handler of SIGTERM of before the trainer was made.

    Lightning's would stop only after the batch, and wait in it for the other ranks, which have not received the signal.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handler back before the first training step."""
        self._keep()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handler back before the first test batch."""
        self._keep()

    def _keep(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


@contextmanager
def stops_kept() -> Iterator[None]:
    """Let KeyboardInterrupt out of the block, in which Lightning turns it into SystemExit."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
