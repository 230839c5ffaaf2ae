"""Runs of a sweep as processes of this machine, each on its own GPUs or cores.

A run is forked from a server that has already imported everything, so it starts at once. Runs share no state.
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
from metaloop.records.directory import check_links
from metaloop.records.jobs import FAILED, INTERRUPTED, LOG, RUNNING, Job
from metaloop.sweeps.launch.devices import CPU, FreeDevices, Machine, Needs
from metaloop.sweeps.ledger import LOG_FORMAT, Ledger, runnable
from metaloop.system.stops import stop_once, stops_held_back

# Modules that the server imports once. A wrong name here only makes runs start slower.
PRELOADED = (
    "metaloop.sweeps.launch.job",
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
_POLL = 1.0  # seconds between two reads of the ledger, for the runs of other processes
_GRACE = 20.0  # seconds that a stopped run has to write its state

OnEnd = Callable[[Job], None]
Supply = Callable[[FreeDevices], Mapping[str, Needs]]
Running = dict[str, tuple[Any, tuple[str, ...], Job]]  # by key: the process, its devices, and the job before the start


def warm_up() -> None:
    """Start the server, so that it imports while the sweep is composed."""
    _context()
    forkserver.ensure_running()


def run_locally(ledger: Ledger, supply: Supply, machine: Machine, retries: int, on_end: OnEnd) -> None:
    """Run the runs of a ledger until none is waiting or running, in this or another process.

    Args:
        ledger: ledger of the sweep.
        supply: returns the needs of the runs, by key. It is called at every poll with the free devices, and may enter further
            runs into the ledger.
        machine: devices that the runs may use.
        retries: how often a failed run is started again.
        on_end: called after each attempt that ended.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. All runs were stopped and can be resumed.
        UserError: a run needs more devices than the machine has, or the disk is full. All runs were stopped likewise.
    """
    context, free, running = _context(), FreeDevices(machine), Running()
    for one in set(supply(free).values()):
        FreeDevices(machine).acquire(one)  # raises before anything starts
    reported = {(job.key, job.attempts) for job in ledger.jobs() if job.state != RUNNING}
    try:
        while True:
            needs = supply(free)
            jobs = [job for job in ledger.jobs() if job.key in needs]
            for job in jobs:
                attempt = (job.key, job.attempts)
                if job.key not in running and job.attempts and job.state != RUNNING and attempt not in reported:
                    reported.add(attempt)
                    on_end(job)
            ready = [job for job in jobs if job.key not in running and runnable(job, ledger.stale, retries)]
            waiting = [job for job in ready if not ledger.held(job)]
            if not running and not ready and not any(job.state == RUNNING for job in jobs):
                return
            for job in waiting:
                devices = free.acquire(needs[job.key])
                if devices is not None:
                    with stops_held_back():  # a process that nobody knows could not be stopped
                        running[job.key] = _start(context, ledger, job, devices, machine.threads, retries), devices, job
            wait([process.sentinel for process, *_ in running.values()], timeout=_POLL)
            for key in [key for key, (process, *_) in running.items() if not process.is_alive()]:
                process, devices, job = running.pop(key)
                free.release(devices)
                _bury(ledger, job, process)
                ledger.job(key).check_space()
    except BaseException:
        _stop(ledger, running)
        raise


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _start(context: Any, ledger: Ledger, job: Job, devices: Sequence[str], threads: int, retries: int) -> Any:
    check_links(ledger.directory / job.directory)
    sweep = (str(ledger.directory), ledger.stale, job.key)
    surroundings = (str(Path.cwd()), dict(os.environ))  # the server's are those of the time when it was started
    process = context.Process(target=_child, args=(*sweep, devices, threads, retries, *surroundings), name=job.directory)
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
    """Run a job: the main function of a run's process."""
    os.setpgid(0, 0)  # Ctrl-C must come once, from the sweep's process
    stop_once()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if devices[0] != CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    import torch

    from metaloop.config.exit_codes import run_and_exit_code
    from metaloop.sweeps.launch.job import run_job

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
    """Enter into the ledger the failure of a process that could not do so itself.

    Raises:
        UserError: the process ended before it claimed the run, and would do so again.
    """
    process.join()
    code = process.exitcode or 0
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    ledger.bury(job.key, process.pid, FAILED, f"the process ended by {cause}")
    if code and ledger.job(job.key).attempts == job.attempts:
        raise UserError(f"the process of {job.directory} ended by {cause} before the run began; see {LOG} there")


def _stop(ledger: Ledger, running: Running) -> None:
    """Interrupt all runs as by Ctrl-C, and wait until they have written their state."""
    for process, *_ in running.values():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
    for process, _, job in running.values():
        process.join(timeout=_GRACE)
        if process.is_alive():
            process.kill()
            process.join()
        ledger.bury(job.key, process.pid, INTERRUPTED)
