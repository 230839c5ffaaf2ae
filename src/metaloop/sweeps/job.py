"""One run of a sweep, in the process that runs it: claimed, kept alive in the ledger, ended."""

import _thread
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.schema import IDENTITY, RunIdentity
from metaloop.records.typed_json import decode
from metaloop.runs.start import start
from metaloop.sweeps.ledger import BEAT, DONE, FAILED, INTERRUPTED, Ledger, result_of

_SHOWN = 4000  # characters of an error that the ledger keeps

log = logging.getLogger(__name__)


def run_job(ledger: Ledger, key: str, device: str, retries: int) -> Mapping[str, Any] | None:
    """Run what the ledger describes under ``key`` in its directory, from its last checkpoint where it has one.

    Returns its record; None where there was nothing to do, because it is done or somebody runs it.

    Raises:
        BaseException: whatever ended the run, after the ledger was told.
    """
    owner = ledger.claim(key, device, retries)
    if owner is None:
        return None
    directory = ledger.directory / ledger.job(key).directory
    try:
        with _alive(ledger, key, owner):
            record = _record(directory)
            if record is None:
                identity = decode(RunIdentity, ledger.description(key), str(ledger.path))
                record = start(identity, directory, resume=(directory / IDENTITY).exists())
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, cancelled, or preempted: it goes on later
        ledger.end(key, owner, INTERRUPTED)
        raise
    except BaseException as error:
        ledger.end(key, owner, FAILED, error=f"{type(error).__name__}: {error}"[-_SHOWN:])
        raise
    ledger.end(key, owner, DONE, result=result_of(record))
    return record


def _record(directory: Path) -> dict[str, Any] | None:
    """Of a run that was cut off after its record was written."""
    try:
        return dict(json.loads((directory / "record.json").read_text()))
    except FileNotFoundError:
        return None


@contextmanager
def _alive(ledger: Ledger, key: str, owner: str) -> Iterator[None]:
    """Tell the ledger now and then that the run is alive; stop it as by Ctrl-C where it was cancelled or pruned."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                mine = ledger.beat(key, owner)
            except UserError as error:  # a disk that is full for a while must not end a training
                log.warning("%s", error)
                continue
            if not mine:
                log.warning("this run was cancelled or pruned, or another process took it over")
                if not over.is_set():
                    _thread.interrupt_main()
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
