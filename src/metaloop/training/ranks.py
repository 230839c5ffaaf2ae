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
    told: list[tuple[str, Any]] = []
    started = (_rank, (ranks, port, results, function, arguments), ranks, False)
    processes = mp.start_processes(*started, start_method="spawn")
    try:
        ended = False
        while not ended:
            ended = processes.join(timeout=0.2)
            told += _rest(results)  # read while ranks live: one that says much waits until it is heard
    except mp.ProcessRaisedException:
        mistake = next((value for kind, value in told + _rest(results) if kind == "mistake"), None)
        if mistake is not None:
            raise UserError(mistake) from None
        raise
    return next(value for kind, value in told if kind == "result")


def _rest(results: Any) -> list[tuple[str, Any]]:
    found = []
    while not results.empty():
        found.append(results.get())
    return found


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
