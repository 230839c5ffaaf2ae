"""Runs of a sweep as processes of this machine, each on the GPUs or cores that it is given.

A run is forked from a server that has everything imported, so that it starts at once; nothing of one run reaches another.
"""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.sweeps.ledger import FAILED, INTERRUPTED, LOG, LOG_FORMAT, RUNNING, Job, Ledger, runnable
from metaloop.sweeps.room import CPU, Machine, Needs, Room

# What a run needs, imported once in the server; a name that is wrong there would only make every run start slower.
PRELOADED = (
    "metaloop.sweeps.job",
    "metaloop.config.build",
    "metaloop.training.run",
    "metaloop.training.meta_test",
    "metaloop.report.pages.run_report",
    "metaloop.report.paper",
    "metaloop.report.summary",
    "metaloop.learners.gradient.gradient_learner",
    "metaloop.learners.metric.metric_learner",
    "torch.utils.tensorboard",
    "scipy.special",
    "PIL.Image",
)
_LOOK = 1.0  # seconds between two looks at what other processes of the sweep do
_LAST_WORDS = 20.0  # seconds that a stopped run has to write what it knows

Told = Callable[[Job], None]
Supply = Callable[[Room], Mapping[str, Needs]]
Running = dict[str, tuple[Any, tuple[str, ...], Job]]  # a run's process, its devices, and how it stood


def warm_up() -> None:
    """Have the server import while the sweep is composed."""
    _context()
    forkserver.ensure_running()


def run_locally(ledger: Ledger, supply: Supply, machine: Machine, retries: int, told: Told) -> None:
    """Run what is to be run of the ledger until nothing of it is left, here or elsewhere.

    Args:
        ledger: of the sweep.
        supply: the runs to care for by key, each with its needs; asked at every look with what is free, for which it may
            enter further runs into the ledger.
        machine: what they may use.
        retries: of a run that failed.
        told: hears of each attempt that ended.

    Raises:
        KeyboardInterrupt: Ctrl-C; all that ran was stopped and can be resumed.
        UserError: a run needs more than there is.
    """
    context, room, running = _context(), Room(machine), Running()
    for one in set(supply(room).values()):
        Room(machine).take(one)  # refused before anything starts
    heard = {(job.key, job.attempts) for job in ledger.jobs() if job.state != RUNNING}
    try:
        while True:
            needs = supply(room)
            jobs = [job for job in ledger.jobs() if job.key in needs]
            for job in jobs:
                if job.key not in running and job.attempts and job.state != RUNNING and (job.key, job.attempts) not in heard:
                    heard.add((job.key, job.attempts))
                    told(job)
            waiting = [job for job in jobs if job.key not in running and runnable(job, ledger.stale, retries)]
            if not running and not waiting and not any(job.state == RUNNING for job in jobs):
                return
            for job in waiting:
                devices = room.take(needs[job.key])
                if devices is not None:
                    running[job.key] = _started(context, ledger, job, devices, machine.threads, retries), devices, job
            wait([process.sentinel for process, *_ in running.values()], timeout=_LOOK)
            for key in [key for key, (process, *_) in running.items() if not process.is_alive()]:
                process, devices, job = running.pop(key)
                room.give_back(devices)
                _bury(ledger, job, process)
    except BaseException:
        _stop(ledger, running)
        raise


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _started(context: Any, ledger: Ledger, job: Job, devices: Sequence[str], threads: int, retries: int) -> Any:
    sweep = (str(ledger.directory), ledger.stale, job.key)
    here = (str(Path.cwd()), dict(os.environ))  # the server has those of when it was started
    process = context.Process(target=_child, args=(*sweep, devices, threads, retries, *here), name=job.directory)
    process.start()
    return process


def _child(
    sweep: str,
    stale: float,
    key: str,
    devices: Sequence[str],
    threads: int,
    retries: int,
    cwd: str,
    environment: Mapping[str, str],
) -> None:
    """What a run's process does."""
    os.setpgid(0, 0)  # Ctrl-C comes from the sweep's own process, once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if devices[0] != CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    import torch

    from metaloop.config.exit_codes import run_and_exit_code
    from metaloop.sweeps.job import run_job

    if devices[0] == CPU:
        torch.set_num_threads(threads)
    ledger = Ledger(Path(sweep), stale)
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
    sys.exit(code)


def _bury(ledger: Ledger, job: Job, process: Any) -> None:
    """Enter the failure of a process that could not do so itself.

    Raises:
        UserError: it ended before it had the run, and would again.
    """
    process.join()
    code = process.exitcode or 0
    by = f"signal {-code}" if code < 0 else f"exit code {code}"
    ledger.bury(job.key, process.pid, FAILED, f"the process ended by {by}")
    if code and ledger.job(job.key).attempts == job.attempts:
        raise UserError(f"the process of {job.directory} ended by {by} before the run began; see {LOG} there")


def _stop(ledger: Ledger, running: Running) -> None:
    """Stop all as by Ctrl-C, and wait until their last words are written."""
    for process, *_ in running.values():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
    for process, _, job in running.values():
        process.join(timeout=_LAST_WORDS)
        if process.is_alive():
            process.kill()
            process.join()
        ledger.bury(job.key, process.pid, INTERRUPTED)
