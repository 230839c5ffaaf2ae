"""Small C++ kernels, compiled on the machine that runs them.

They are plain functions of pointers without torch's headers, so that they compile in a second.
"""

import ctypes
import functools
import logging
import os
import platform
import shutil
import subprocess
from functools import partial
from pathlib import Path

from metaloop.system.cache import entry, locked
from metaloop.system.files import replace_atomically, state_folder

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")

log = logging.getLogger(__name__)


def compiler() -> str | None:
    """Return the C++ compiler: ``$CXX``, g++ or clang++; None if there is none."""
    return os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Return the kernels of ``<name>.cpp`` beside this file; None without a compiler or a writable state folder.

    They are compiled once for each source, compiler, flags and processor, and kept in the user's state folder, not in the
    cache: a library is executed, and a cache may come from somebody else.
    """
    command = compiler()
    if command is None or platform.system() != "Linux":
        return None
    source = Path(__file__).with_name(f"{name}.cpp")
    try:
        path = entry(state_folder(), name, repr((_text(source), _FLAGS, command, _processor())), "so")
        if not path.exists():
            with locked(path):
                replace_atomically(path, partial(_compile, command, source))
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        log.info("%s: the kernels cannot be compiled or loaded, torch's operations are used: %s", name, error)
        return None


def _text(source: Path) -> list[bytes]:
    """Return a source and all headers, any of which it may include."""
    return [path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h")))]


def _compile(command: str, source: Path, to: Path) -> None:
    subprocess.run([command, *_FLAGS, "-o", str(to), str(source)], check=True, capture_output=True, timeout=600)


def _processor() -> str:
    """Return the description of the processor that ``-march=native`` depends on.

    Machines that share a home directory thus keep one file for each kind of processor.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
