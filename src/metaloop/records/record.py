"""The record of a run: what was run, where, and what came out."""

import csv
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metaloop.system.files import replace_atomically, write_atomically

SCHEMA = 1
_PACKAGES = ("metaloop", "torch", "pytorch-lightning", "hydra-core", "torchmetrics", "numpy", "transformers", "wandb")


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` as JSON, atomically."""
    text = json.dumps(record, indent=1, allow_nan=True)
    write_atomically(path, text + "\n")


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length as CSV, atomically."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    replace_atomically(path, write)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(ranks: int) -> dict[str, Any]:
    """What the run had: processor, cores, accelerator, ranks."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cores": cores,
        "gpu": gpu,
        "ranks": ranks,
        "threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def git_state() -> dict[str, Any] | None:
    """Commit of the code that runs, and whether it was changed since; None where it is not in a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device's allocator, or the largest resident size of the process and of those that run tasks for it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024 + sum(map(_resident_peak, _workers()))


def _workers() -> list[Path]:
    """The folders in /proc of this process's children that run tasks (``metaloop.inner.execution.workers``)."""
    children = [Path("/proc", pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return [child for child in children if b"metaloop.inner.execution.worker" in (child / "cmdline").read_bytes()]


def _resident_peak(process: Path) -> int:
    rows = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(rows["VmHWM"].split()[0]) * 1024
