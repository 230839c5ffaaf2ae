"""Largest memory of a meta-training, over all its processes and ranks."""

import socket
import time
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer

from metaloop.inner.execution.over_tasks import OverTasks
from metaloop.system.memory import MemoryUse, forget_peak, peak

_SECONDS = 10.0  # between two looks; a process that lives shorter may be missed


class PeakMemory(Callback):
    """Callback that measures memory; see ``peak_memory_bytes`` of :class:`~metaloop.records.schema.Training`.

    The system keeps the largest memory of each process that lives, so it is enough to look before processes end: after the
    outer steps 1, 2, 4, 8 and so on, every few seconds, and after each validation. A look takes a millisecond.

    Args:
        over_tasks: The learner's ``OverTasks``, which knows what the processes took that it has ended.

    Attributes:
        bytes: The largest memory, after training.
    """

    def __init__(self, over_tasks: OverTasks) -> None:
        self.over_tasks = over_tasks
        self.bytes = 0
        self._highest = MemoryUse()
        self._steps, self._due = 0, 0.0
        forget_peak()

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Look from time to time."""
        self._steps += 1
        if self._steps & (self._steps - 1) == 0 or time.monotonic() >= self._due:
            self._look()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the end of a validation."""
        self._look()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put together what all ranks have measured."""
        self._look()
        self._highest = self._highest.largest(self.over_tasks.memory_before_close)
        device = pl_module.device
        on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        self.bytes = over_ranks(gathered((socket.gethostname(), self._highest, on_device)))

    def _look(self) -> None:
        self._highest = self._highest.largest(peak())
        self._due = time.monotonic() + _SECONDS


def gathered(mine: tuple[str, MemoryUse, int]) -> list[tuple[str, MemoryUse, int]]:
    """Gather what each rank has measured: its machine, its memory and that of its device."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [mine]
    everyone = [mine] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    return everyone


def over_ranks(ranks: list[tuple[str, MemoryUse, int]]) -> int:
    """Bytes of the device that needs most or, without devices, of the machine that needs most.

    Args:
        ranks: Machine, memory, and bytes on its device (0 without one) of each rank.
    """
    on_device = max(device for _, _, device in ranks)
    machines = {machine: [memory for name, memory, _ in ranks if name == machine] for machine, _, _ in ranks}
    return on_device or max(MemoryUse.of_ranks(each).total for each in machines.values())
