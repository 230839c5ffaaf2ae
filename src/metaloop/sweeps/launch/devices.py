"""The devices of a machine, and which of them are free: GPUs, each for several runs at once, and CPU cores."""

import os
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaloop.errors import UserError
from metaloop.system.cores import available_cores

CPU = "cpu"


@dataclass(frozen=True)
class Machine:
    """The devices that runs may use.

    Attributes:
        gpus: names of the GPUs, as in CUDA_VISIBLE_DEVICES.
        per_gpu: number of simultaneous runs on one GPU.
        cores: number of simultaneous processes on the CPU.
        threads: number of threads of each process on the CPU.
    """

    gpus: tuple[str, ...]
    per_gpu: int
    cores: int
    threads: int

    @classmethod
    def detect(cls, gpus: Sequence[str] | None, per_gpu: int, jobs: int | None, threads: int | None) -> "Machine":
        """Detect the devices of this machine, within the user's limits.

        Args:
            gpus: GPUs to use; None for all.
            per_gpu: number of simultaneous runs on one GPU.
            jobs: number of simultaneous runs on the CPU; None for one for each ``threads`` cores.
            threads: number of threads of a run on the CPU; None divides the cores between ``jobs``, or is 1 without them.

        Raises:
            UserError: a number is below 1.
        """
        for name, value in (("--per-gpu", per_gpu), ("--jobs", jobs), ("--threads", threads)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value} must be at least 1")
        cores = available_cores()
        threads = threads or (max(1, cores // jobs) if jobs else 1)
        return cls(tuple(visible_gpus() if gpus is None else gpus), per_gpu, jobs or max(1, cores // threads), threads)


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, without initializing any of them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name and name != "-1"]
    try:
        result = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return result.stdout.split()


@dataclass(frozen=True)
class Needs:
    """The devices that one run needs.

    Attributes:
        gpus: number of GPUs; -1 for all, 0 for a run on the CPU.
        processes: number of processes on the CPU.
    """

    gpus: int
    processes: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Needs":
        """Read the needs of a run from the trainer of its config."""
        trainer = config["trainer"]
        devices = trainer.get("devices", 1)
        count = len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) else -1
        return cls(count) if trainer.get("accelerator") in ("gpu", "cuda") else cls(0, max(count, 1))


class FreeDevices:
    """The free devices of a machine.

    Args:
        machine: all devices.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._on_gpu: Counter[str] = Counter()
        self._on_cpu = 0

    def acquire(self, needs: Needs) -> tuple[str, ...] | None:
        """Acquire the devices of a run ("cpu" for each of its processes); None if the run must wait.

        Raises:
            UserError: the run needs more than the machine has.
        """
        if not needs.gpus:
            processes = min(needs.processes, self.machine.cores)  # more ranks than cores share the cores
            if self._on_cpu + processes > self.machine.cores:
                return None
            self._on_cpu += processes
            return (CPU,) * processes
        gpus = self.machine.gpus
        count = len(gpus) if needs.gpus < 0 else needs.gpus
        if not 0 < count <= len(gpus):
            raise UserError(
                f"a run of the sweep needs {max(count, 1)} GPUs, but there are {len(gpus)}; "
                "set trainer=cpu, or a smaller trainer.devices"
            )
        free = sorted((gpu for gpu in gpus if self._on_gpu[gpu] < self.machine.per_gpu), key=self._on_gpu.__getitem__)
        if len(free) < count:
            return None
        self._on_gpu.update(free[:count])
        return tuple(free[:count])

    def capacity(self, needs: Needs) -> int:
        """The number of such runs that can start now.

        Raises:
            UserError: one run needs more than the machine has.
        """
        acquired = []
        while (devices := self.acquire(needs)) is not None:
            acquired.append(devices)
        for devices in acquired:
            self.release(devices)
        return len(acquired)

    def release(self, devices: Sequence[str]) -> None:
        """Release devices from :meth:`acquire`."""
        if devices[0] == CPU:
            self._on_cpu -= len(devices)
        else:
            self._on_gpu.subtract(devices)
