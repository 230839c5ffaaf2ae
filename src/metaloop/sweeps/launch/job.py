"""One run of a sweep in its process: claim it, send heartbeats to the ledger, and enter how it ended."""

import _thread
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metaloop.config.exit_codes import full_disk
from metaloop.errors import UserError
from metaloop.records.directory import InUse, is_complete
from metaloop.records.jobs import DONE, FAILED, INTERRUPTED, LOG
from metaloop.records.reading import read_record
from metaloop.records.schema import IDENTITY, RECORD, Record
from metaloop.runs.resume import complete
from metaloop.runs.start import start
from metaloop.sweeps.launch.devices import CPU
from metaloop.sweeps.ledger import BEAT, LOG_FORMAT, Ledger, result_of

_MAX_ERROR = 4000  # characters of an error that the ledger keeps

log = logging.getLogger(__name__)


def run_process(ledger: Ledger, key: str, devices: Sequence[str], threads: int, retries: int) -> int:
    """Run a job in this process, which exists for it alone; the output goes to the run's log.

    Args:
        ledger: ledger of the sweep.
        key: key of the run.
        devices: its devices, "cpu" for each of its processes on the CPU.
        threads: number of threads of each process on the CPU.
        retries: how often a failed run is started again.

    Returns:
        The exit status.
    """
    import torch

    from metaloop.config.exit_codes import run_and_exit_code

    if devices[0] == CPU:
        torch.set_num_threads(threads)
    directory = ledger.directory / ledger.job(key).directory
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOG).open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)

    def run(_: list[str]) -> int:
        run_job(ledger, key, ",".join(devices), retries)
        return 0

    code = run_and_exit_code(run, [])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def run_job(ledger: Ledger, key: str, device: str, retries: int) -> Record | None:
    """Run the run ``key`` of the ledger in its directory, from its last checkpoint if there is one.

    Returns:
        The record of the run; None if the run is already done, or another process works on it.

    Raises:
        BaseException: the error that ended the run, after it was entered into the ledger.
    """
    job = ledger.job(key)
    owner = None if ledger.held(job) else ledger.claim(key, device, retries)
    if owner is None:
        return None
    directory = ledger.directory / job.directory
    try:
        with _heartbeat(ledger, key, owner):
            record = _record(directory) or start(ledger.identity(key), directory, resume=(directory / IDENTITY).exists())
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, cancelled or preempted: it can be resumed
        ledger.end(key, owner, INTERRUPTED)
        raise
    except InUse as error:  # it took the directory just now; the run waits for it
        log.warning("%s", error)
        ledger.end(key, owner, INTERRUPTED)
        return None
    except BaseException as error:
        full = full_disk(error)
        if full is not None:  # no fault of the run, which goes on from its last checkpoint
            ledger.end(key, owner, INTERRUPTED, error=full)
            raise
        text = f"{type(error).__name__}: {error}"[-_MAX_ERROR:]
        if isinstance(error, UserError):
            text += f"\nafter a repair, metaloop sweep retry {ledger.directory} lets it run again"
        ledger.end(key, owner, FAILED, error=text, final=isinstance(error, UserError))
        raise
    ledger.end(key, owner, DONE, result=result_of(record))
    return record


def _record(directory: Path) -> Record | None:
    """The record of a run that was interrupted after it had written its record, and gets its report; None for another run."""
    if not (directory / RECORD).exists():
        return None
    return read_record(directory) if is_complete(directory) else complete(directory)


@contextmanager
def _heartbeat(ledger: Ledger, key: str, owner: str) -> Iterator[None]:
    """Send heartbeats to the ledger, and interrupt the run as by Ctrl-C if it was cancelled or pruned."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            try:
                owned = ledger.beat(key, owner)
            except UserError as error:  # a disk that is full for a while must not end the training
                log.warning("%s", error)
                continue
            if not owned:
                log.warning("this run was cancelled or pruned, or another process took it over")
                if not ended.is_set():
                    _thread.interrupt_main()
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
