"""Start of several ranks on one machine, in place of Lightning's, which would run the command line again for each rank."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessRaisedException, start_processes

from metaloop.errors import UserError


def externally_launched() -> bool:
    """Whether torchrun, Slurm or this module has started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ


def launch(function: Callable[..., Any], ranks: int, *arguments: Any) -> Any:
    """Call ``function(*arguments)`` in ``ranks`` processes that form one process group; return rank zero's result.

    Args:
        function: Function that can be imported by name; its arguments and result are pickled.
        ranks: Number of processes.
        arguments: Arguments, the same for each rank.

    Raises:
        UserError: a rank raised it.
    """
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    messages: list[tuple[str, Any]] = []
    start = (_rank, (ranks, port, results, function, arguments), ranks, False)
    processes = start_processes(*start, start_method="spawn")  # type: ignore[no-untyped-call]
    try:
        ended = False
        while not ended:
            ended = processes.join(timeout=0.2)
            messages += _received(results)  # while ranks run: a large message blocks its sender until it is read
    except ProcessRaisedException:
        error = next((value for kind, value in messages + _received(results) if kind == "error"), None)
        if error is not None:
            raise UserError(error) from None
        raise
    return next(value for kind, value in messages if kind == "result")


def _received(results: Any) -> list[tuple[str, Any]]:
    messages = []
    while not results.empty():
        messages.append(results.get())
    return messages


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
    except UserError as error:
        results.put(("error", str(error)))
        raise
    if rank == 0:
        results.put(("result", value))
