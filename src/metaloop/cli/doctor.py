"""``metaloop doctor``: describe the machine and the installation, for a bug report."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaloop import __version__

Facts = dict[str, Any]  # plain data by name
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SLURM = ("SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_NTASKS")


def doctor(data_dir: str, *, as_json: bool) -> int:
    """Print all facts as text or as JSON, with the error in place of facts that cannot be found; return 0."""
    facts = {name: _safely(look) for name, look in _sections(data_dir).items()}
    if as_json:
        print(json.dumps(facts, indent=1))
        return 0
    for name, rows in facts.items():
        print(name)
        width = max((len(key) for key in rows), default=0)
        for key, value in rows.items():
            print(f"  {key:<{width}}  {_text(value)}")
    return 0


def _sections(data_dir: str) -> Mapping[str, Callable[[], Facts]]:
    return {
        "versions": _versions,
        "system": _system,
        "processor": _processor,
        "GPUs": _gpus,
        "threads": _threads,
        "kernels": _kernels,
        "disk": lambda: _disk(data_dir),
        "data sets": lambda: _data_sets(data_dir),
        "extras": _extras,
        "Weights & Biases": _wandb,
        "launchers": _launchers,
    }


def _safely(look: Callable[[], Facts]) -> Facts:
    try:
        return look()
    except Exception as error:  # the report is meant to show what is broken
        return {"cannot be determined": f"{type(error).__name__}: {error}"}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _versions() -> Facts:
    from metaloop.records.code import framework
    from metaloop.records.environment import versions

    git = framework()
    commit = None if git is None else f"{git.commit}{' (with local changes)' if git.dirty else ''}"
    return {"metaloop": __version__, "commit": commit, **{name: v for name, v in versions().items() if name != "metaloop"}}


def _system() -> Facts:
    return {"system": platform.platform(), "machine": platform.machine(), "python": sys.executable}


def _processor() -> Facts:
    from metaloop.records.environment import hardware
    from metaloop.system.cgroups import cpu_limit, memory_limit
    from metaloop.system.cores import available_cores

    limit = memory_limit()
    return {
        "model": hardware(1).cpu,
        "cores": os.cpu_count(),
        "cores for this process": available_cores(),
        "limit by control group": cpu_limit(),
        "memory": _size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "free memory": _free_memory(),
        "memory limit by control group": None if limit is None else _size(limit),
    }


def _free_memory() -> str | None:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return _size(int(kibibytes) * 1024)
    return None


def _gpus() -> Facts:
    import torch

    facts: Facts = {"torch's CUDA": torch.version.cuda, "visible": os.environ.get("CUDA_VISIBLE_DEVICES", "all")}
    if not torch.cuda.is_available():
        return {**facts, "usable": 0}
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        facts[f"GPU {number}"] = f"{about.name}, {_size(about.total_memory)}, capability {about.major}.{about.minor}"
    return facts


def _threads() -> Facts:
    import torch

    threads = {"torch": torch.get_num_threads(), "torch, between operations": torch.get_num_interop_threads()}
    return {**threads, **{name: os.environ.get(name) for name in _THREADS}}


def _kernels() -> Facts:
    from metaloop.models.convolutional.native import compiler, library

    path = compiler()
    if path is None:
        return {"C++ compiler": None}
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    compiled = {f"{name}.cpp works": library(name) is not None for name in ("conv_block", "conv_stack", "patches")}
    return {"C++ compiler": path, "version": next(iter(version.splitlines()), None), **compiled}


def _disk(data_dir: str) -> Facts:
    from metaloop.system.cache import cache_folder

    folders = {"outputs": Path("outputs"), "cache": cache_folder(None), "data": Path(data_dir).expanduser()}
    return {name: f"{_size(_free(path))} free in {path.absolute()}" for name, path in folders.items()}


def _free(path: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    path = path.absolute()
    return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free


def _data_sets(data_dir: str) -> Facts:
    from metaloop.data.files.sources import status

    files: dict[str, list[bool]] = {}
    for state in status(data_dir):
        files.setdefault(state.source, []).append(state.size is not None)
    return {name: "present" if all(exist) else f"{sum(exist)} of {len(exist)} files" for name, exist in files.items()}


def _extras() -> Facts:
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in importlib.metadata.requires("metaloop") or []]
    facts: Facts = {}
    for extra in importlib.metadata.metadata("metaloop").get_all("Provides-Extra") or []:
        names = [each.name for each in requirements if each.marker is not None and each.marker.evaluate({"extra": extra})]
        missing = [name for name in names if _version(name) is None]
        facts[extra] = f"missing {', '.join(missing)}" if missing else "installed"
    return facts


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wandb() -> Facts:
    version = _version("wandb")
    if version is None:
        return {"version": None}
    from metaloop.tracking.wandb import has_key

    return {"version": version, "API key": has_key(), "WANDB_MODE": os.environ.get("WANDB_MODE")}


def _launchers() -> Facts:
    job = {name: os.environ[name] for name in _SLURM if name in os.environ}
    return {"Slurm (sbatch)": shutil.which("sbatch"), **job, "Ray": _version("ray"), "joblib": _version("joblib")}


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
