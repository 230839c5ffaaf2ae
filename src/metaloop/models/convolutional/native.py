"""Small C++ kernels, compiled where they run: plain functions of pointers, loaded without torch's headers in a second."""

import ctypes
import functools
import logging
import os
import platform
import shutil
import subprocess
from functools import partial
from pathlib import Path

from metaloop.system.cache import cache_folder, entry, locked
from metaloop.system.files import replace_atomically

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")

log = logging.getLogger(__name__)


def compiler() -> str | None:
    """The C++ compiler: ``$CXX``, g++ or clang++; None where there is none."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """The kernels of ``<name>.cpp`` beside this file, or None where they cannot be had: no compiler, no place to keep them.

    Compiled once per source, compiler flags and processor, and kept in the cache (see :mod:`metaloop.system.cache`).
    """
    chosen = compiler()
    if chosen is None or platform.system() != "Linux":
        return None
    source = Path(__file__).with_name(f"{name}.cpp")
    path = entry(cache_folder(None), name, repr((source.read_bytes(), _FLAGS, chosen, _processor())), "so")
    try:
        if not path.exists():
            with locked(path):
                replace_atomically(path, partial(_compile, chosen, source))
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        log.info("%s runs without its own kernels: %s", name, error)
        return None


def _compile(chosen: str, source: Path, to: Path) -> None:
    subprocess.run([chosen, *_FLAGS, "-o", str(to), str(source)], check=True, capture_output=True, timeout=120)


def _processor() -> str:
    """What ``-march=native`` depends on, so that a home shared by several machines keeps one file for each kind."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
