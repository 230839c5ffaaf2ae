"""Runs of a sweep as processes of this machine, each on its own GPUs or cores.

A run is forked from a server that has already imported everything, so it starts at once. Runs share no state.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.directory import check_links
from metaloop.records.jobs import FAILED, INTERRUPTED, LOG, PACK, Job
from metaloop.sweeps.launch.devices import CPU, FreeDevices, Machine, Needs
from metaloop.sweeps.launch.packs import Packs
from metaloop.sweeps.launch.schedule import GRACE, OnEnd, Supply, Workplace, run_all
from metaloop.sweeps.ledger import Ledger, runnable
from metaloop.system.stops import stop_once, stops_held_back

# Modules that the server imports once. A wrong name here only makes runs start slower.
PRELOADED = (
    "metaloop.sweeps.launch.job",
    "metaloop.config.build_run",
    "metaloop.training.run",
    "metaloop.training.packs.server",
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


def warm_up() -> None:
    """Start the server, so that it imports while the sweep is composed."""
    _context()
    forkserver.ensure_running()


def run_locally(
    ledger: Ledger,
    supply: Supply,
    machine: Machine,
    retries: int,
    on_end: OnEnd,
    pack: str = "false",
    kinds: Mapping[str, str] | None = None,
) -> None:
    """Run the runs of a ledger on this machine; see :func:`metaloop.sweeps.launch.schedule.run_all`.

    Args:
        ledger: ledger of the sweep.
        supply: returns the needs of the runs, by key.
        machine: devices that the runs may use.
        retries: how often a failed run is started again.
        on_end: called after each attempt that ended.
        pack: value of ``sweep.pack``.
        kinds: kinds of the runs that may be computed together, by key.
    """
    packs = Packs(pack, kinds or {}, machine, _context())
    try:
        run_all(ledger, supply, LocalProcesses(ledger, machine, retries, packs), retries, on_end)
    finally:
        packs.end()


class LocalProcesses(Workplace):
    """Processes of this machine.

    Args:
        ledger: ledger of the sweep.
        machine: devices that the runs may use.
        retries: how often a failed run is started again.
        packs: which of the runs are computed together.
    """

    def __init__(self, ledger: Ledger, machine: Machine, retries: int, packs: Packs) -> None:
        self._ledger, self._machine, self._retries = ledger, machine, retries
        self._free = FreeDevices(machine)
        self._packs = packs
        self._context = _context()
        self._running: dict[str, tuple[Any, tuple[str, ...], Job]] = {}  # process, devices, and the job before the start

    def capacity(self, needs: Needs) -> int:
        """The number of such runs for which devices are free."""
        return self._free.capacity(needs)

    def running(self) -> Collection[str]:
        """Keys of the runs whose processes were started here."""
        return self._running.keys()

    def start(self, job: Job, needs: Needs) -> bool:
        """Fork a process for the run, if devices are free or the run has a seat in a pack."""
        pack = self._packs.join(job.key)
        devices = self._free.acquire(needs) if pack is None else pack.devices
        if devices is None:
            return False
        with stops_held_back():  # a process that nobody knows could not be stopped
            pack = pack or self._packs.begin(job.key, self._waiting(), devices)
            process = self._process(job, devices, None if pack is None else pack.address)
            self._running[job.key] = process, devices, job
        return True

    def _waiting(self) -> list[str]:
        jobs = [job for job in self._ledger.jobs() if job.key not in self._running]
        return [job.key for job in jobs if runnable(job, self._ledger.stale, self._retries)]

    def _process(self, job: Job, devices: Sequence[str], pack: str | None) -> Any:
        check_links(self._ledger.directory / job.directory)
        run = (str(self._ledger.directory), self._ledger.stale, job.key, devices, self._machine.threads, self._retries)
        environment = dict(os.environ) | ({} if pack is None else {PACK: pack})
        surroundings = (str(Path.cwd()), environment)  # the server's are those of the time when it was started
        process = self._context.Process(target=_child, args=(*run, *surroundings), name=job.directory)
        process.start()
        return process

    def wait(self, seconds: float) -> None:
        """Wait until a process has ended or a pack has its verdict."""
        self._packs.settle()
        wait([*(process.sentinel for process, *_ in self._running.values()), *self._packs.pipes()], timeout=seconds)
        self._packs.look()
        for key in [key for key, (process, *_) in self._running.items() if not process.is_alive()]:
            process, devices, job = self._running.pop(key)
            of_pack = self._packs.leave(key)
            if of_pack is None or of_pack:
                self._free.release(of_pack or devices)
            _bury(self._ledger, job, process)

    def stop(self) -> None:
        """Interrupt all processes, and kill those that have not ended after a while."""
        for process, *_ in self._running.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
        for process, _, job in self._running.values():
            process.join(timeout=GRACE)
            if process.is_alive():
                process.kill()
                process.join()
            self._ledger.bury(job.key, process.pid, INTERRUPTED)


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


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
    from metaloop.sweeps.launch.job import run_process

    sys.exit(run_process(Ledger(Path(sweep), stale), key, devices, threads, retries))


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
