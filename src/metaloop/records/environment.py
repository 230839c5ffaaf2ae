"""The environment of a run: versions and hardware."""

import importlib.metadata
import os
import platform
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
