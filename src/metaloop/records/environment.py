"""The environment of a run: versions, hardware, commit, peak memory."""

import importlib.metadata
import os
import platform
import resource
import sys
from pathlib import Path

import torch

from metaloop.records.schema import Hardware

_PACKAGES = ("metaloop", "torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy", "transformers", "wandb")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def hardware(ranks: int) -> Hardware:
    """Processor, cores, accelerator, ranks and threads of a run."""
    return Hardware(
        machine=platform.machine(),
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        gpu=torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        ranks=ranks,
        threads=torch.get_num_threads(),
    )


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes.

    On CUDA this is the peak of the device's allocator. Elsewhere it is the sum of the largest resident sizes of this process
    and its task workers.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024 + sum(map(_resident_peak, _workers()))


def _workers() -> list[Path]:
    """Folders in /proc of the child processes that run tasks (``metaloop.inner.execution.workers``)."""
    children = [Path("/proc", pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return [child for child in children if b"metaloop.inner.execution.worker" in (child / "cmdline").read_bytes()]


def _resident_peak(process: Path) -> int:
    rows = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(rows["VmHWM"].split()[0]) * 1024
