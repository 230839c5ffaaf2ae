"""Stops of a process that trains or tests."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning import Callback, LightningModule, Trainer


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
