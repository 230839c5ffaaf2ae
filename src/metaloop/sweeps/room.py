"""What of a machine is free for runs: GPUs, each for so many runs at once, and cores."""

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
    """What runs may use at once.

    Attributes:
        gpus: their names as CUDA_VISIBLE_DEVICES has them.
        per_gpu: runs at once on one.
        cores: processes of runs at once on the CPU.
        threads: of each of those.
    """

    gpus: tuple[str, ...]
    per_gpu: int
    cores: int
    threads: int

    @classmethod
    def here(cls, gpus: Sequence[str] | None, per_gpu: int, jobs: int | None, threads: int | None) -> "Machine":
        """This machine, with what the user says of it; None for all there is.

        Args:
            gpus: to use.
            per_gpu: runs at once on one.
            jobs: runs at once on the CPU; None: one for each ``threads`` cores.
            threads: of a run on the CPU; None: the cores shared by ``jobs``, or one.
        """
        for name, value in (("--per-gpu", per_gpu), ("--jobs", jobs), ("--threads", threads)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: at least 1")
        cores = available_cores()
        threads = threads or (max(1, cores // jobs) if jobs else 1)
        return cls(tuple(visible_gpus() if gpus is None else gpus), per_gpu, jobs or max(1, cores // threads), threads)


def visible_gpus() -> list[str]:
    """This process's GPUs, without waking one."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name for name in said.split(",") if name and name != "-1"]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()


@dataclass(frozen=True)
class Needs:
    """Of one run: so many GPUs (-1: all), or none and so many processes on the CPU."""

    gpus: int
    processes: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Needs":
        """What a run's trainer asks for."""
        trainer = config["trainer"]
        devices = trainer.get("devices", 1)
        count = len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) else -1
        return cls(count) if trainer.get("accelerator") in ("gpu", "cuda") else cls(0, max(count, 1))


class Room:
    """What of a machine is free.

    Args:
        machine: all of it.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._on_gpu: Counter[str] = Counter()
        self._on_cpu = 0

    def take(self, needs: Needs) -> tuple[str, ...] | None:
        """The devices of a run that may start now ("cpu" for each of its processes); None where it must wait.

        Raises:
            UserError: it needs more than the machine has.
        """
        if not needs.gpus:
            wanted = min(needs.processes, self.machine.cores)  # more ranks than cores take turns
            if self._on_cpu + wanted > self.machine.cores:
                return None
            self._on_cpu += wanted
            return (CPU,) * wanted
        gpus = self.machine.gpus
        count = len(gpus) if needs.gpus < 0 else needs.gpus
        if not 0 < count <= len(gpus):
            raise UserError(
                f"a run of the sweep needs {max(count, 1)} GPUs, of which there are {len(gpus)}; "
                "take trainer=cpu or fewer devices"
            )
        free = sorted((gpu for gpu in gpus if self._on_gpu[gpu] < self.machine.per_gpu), key=self._on_gpu.__getitem__)
        if len(free) < count:
            return None
        self._on_gpu.update(free[:count])
        return tuple(free[:count])

    def fits(self, needs: Needs) -> int:
        """How many such runs may start now.

        Raises:
            UserError: one needs more than the machine has.
        """
        taken = []
        while (devices := self.take(needs)) is not None:
            taken.append(devices)
        for devices in taken:
            self.give_back(devices)
        return len(taken)

    def give_back(self, devices: Sequence[str]) -> None:
        """Free what :meth:`take` gave."""
        if devices[0] == CPU:
            self._on_cpu -= len(devices)
        else:
            self._on_gpu.subtract(devices)
