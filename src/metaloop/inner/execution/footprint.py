"""How much memory a graph holds, and how much there is: what decides whether all tasks fit at once."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class _Saved:
    """A tensor that a graph keeps for its backward pass, counted while it lives."""

    def __init__(self, tensor: Tensor, ledger: "_Ledger") -> None:
        self.tensor, self.ledger = tensor, ledger
        ledger.take(tensor)

    def __del__(self) -> None:
        self.ledger.leave(self.tensor)


class _Ledger:
    """Bytes of the distinct storages that are kept now, and the most that ever were."""

    def __init__(self) -> None:
        self.users: Counter[int] = Counter()
        self.now = self.most = 0

    def take(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if not self.users[storage.data_ptr()]:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
        self.users[storage.data_ptr()] += 1

    def leave(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.users[storage.data_ptr()] -= 1
        if not self.users[storage.data_ptr()]:
            self.now -= storage.nbytes()


def graph_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that plain autograd keeps for backward passes at one time while ``run`` runs."""
    ledger = _Ledger()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Saved(tensor, ledger), lambda saved: saved.tensor):
        run()
    return ledger.most


def free_bytes(device: torch.device) -> int:
    """Memory that could be taken now on ``device``."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # counts what caches would give back
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
