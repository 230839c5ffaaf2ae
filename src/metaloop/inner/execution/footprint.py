"""Memory that a graph holds and memory that is free, which decide whether all tasks fit at once."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class _Saved:
    """A tensor that a graph keeps for its backward pass, counted for as long as it is kept."""

    def __init__(self, tensor: Tensor, ledger: "_Ledger") -> None:
        self.tensor, self.ledger = tensor, ledger
        ledger.add(tensor)

    def __del__(self) -> None:
        self.ledger.remove(self.tensor)


class _Ledger:
    """Bytes of the distinct storages that are kept now, and the largest number so far."""

    def __init__(self) -> None:
        self.users: Counter[int] = Counter()
        self.current = self.peak = 0

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if not self.users[storage.data_ptr()]:
            self.current += storage.nbytes()
            self.peak = max(self.peak, self.current)
        self.users[storage.data_ptr()] += 1

    def remove(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.users[storage.data_ptr()] -= 1
        if not self.users[storage.data_ptr()]:
            self.current -= storage.nbytes()


def graph_bytes(run: Callable[[], Any]) -> int:
    """Return the peak number of bytes that plain autograd keeps for backward passes while ``run`` runs."""
    ledger = _Ledger()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Saved(tensor, ledger), lambda saved: saved.tensor):
        run()
    return ledger.peak


def free_bytes(device: torch.device) -> int:
    """Return the bytes of memory that are free now on ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # MemAvailable includes what the page cache can give back
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
