"""Ranks that torchrun has started: rank zero decides on the run's directory and tells the others."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metaloop.errors import RankLost, UserError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_KEY = "metaloop/run"
_POLL = 0.05  # seconds between two questions; a wait inside of torch would not hear signals


class Decision(NamedTuple):
    """What rank zero does: it runs in ``directory``, from the last checkpoint if ``resume``."""

    directory: Path
    resume: bool


def externally_launched() -> bool:
    """Whether torchrun or a launcher like it has started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ


def is_follower() -> bool:
    """Whether this process is a rank other than zero of an external launcher."""
    return externally_launched() and os.environ.get("RANK", "0") != "0"


@contextmanager
def deciding() -> Iterator[None]:
    """Tell the other ranks at the end of the block that there is nothing to run, unless a run was announced inside."""
    try:
        yield
    finally:
        if externally_launched() and not is_follower():
            _tell("null")


def announce(directory: Path, resume: bool) -> None:
    """Tell the other ranks, as rank zero, where the run is; call it when nothing can refuse the run any more."""
    _tell(json.dumps([str(directory.resolve()), resume]))


@cache
def decision() -> Decision | None:
    """Wait for rank zero's decision; None if it runs nothing.

    Raises:
        RankLost: rank zero has gone.
    """
    store = run_store()
    try:
        while not store.check([_KEY]):
            time.sleep(_POLL)
        told = json.loads(store.get(_KEY))
    except RuntimeError as error:
        raise RankLost(f"rank zero, or its machine, ended before it began the run ({' '.join(str(error).split())})") from error
    return told and Decision(Path(told[0]), told[1])


def _tell(text: str) -> None:
    run_store().compare_set(_KEY, "", text)  # the first word counts


@cache
def run_store() -> "Store":
    """The store through which torch's process groups find each other; rank zero or the launcher holds it."""
    from torch.distributed.rendezvous import rendezvous

    try:
        store: Store = next(rendezvous("env://"))[0]
    except ValueError as error:
        raise UserError(
            f"LOCAL_RANK is set, so this is one of several ranks, but they cannot find each other: {error}. Start them with "
            "torchrun, or unset LOCAL_RANK"
        ) from error
    return store
