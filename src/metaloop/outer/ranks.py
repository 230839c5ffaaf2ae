"""Several ranks on one machine, started here rather than by Lightning, which would run the command line again in each."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp

from metaloop.errors import UserError


def externally_launched() -> bool:
    """Whether torchrun, Slurm or this module has already started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ


def launch(function: Callable[..., Any], ranks: int, *arguments: Any) -> Any:
    """Call ``function(*arguments)`` in ``ranks`` processes that find each other; returns what rank zero returned.

    Args:
        function: importable by name; its arguments and result travel by pickle.
        ranks: how many.
        arguments: the same for each.

    Raises:
        UserError: one that a rank raised.
    """
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        mp.start_processes(_rank, (ranks, port, results, function, arguments), nprocs=ranks, start_method="spawn")
    except mp.ProcessRaisedException:
        if not results.empty():
            kind, value = results.get()
            if kind == "mistake":
                raise UserError(value) from None
        raise
    kind, value = results.get()
    return value


def _rank(rank: int, ranks: int, port: int, results: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "RANK": str(rank),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    try:
        value = function(*arguments)
    except UserError as mistake:
        results.put(("mistake", str(mistake)))
        raise
    if rank == 0:
        results.put(("result", value))
