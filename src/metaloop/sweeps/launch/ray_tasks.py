"""Runs of a sweep as tasks of a Ray cluster, on Ray Core: one task a run, with its CPUs and its share of GPUs.

Ray chooses the machine. It never starts a task again by itself, because a lost worker is a failure of the run in the ledger,
which starts it again from its last checkpoint. The working folder must be on storage that all machines share.
"""

import importlib
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from metaloop.errors import UserError
from metaloop.records.directory import check_links
from metaloop.records.jobs import FAILED, INTERRUPTED, LEDGER, LOG, Job
from metaloop.sweeps.launch.devices import CPU, Machine, Needs
from metaloop.sweeps.launch.schedule import GRACE, OnEnd, Supply, Workplace, run_all
from metaloop.sweeps.ledger import Ledger

ADDRESS = "RAY_ADDRESS"  # Ray's own variable
_PASSED = ("METALOOP_", "WANDB_", "HF_", "MLFLOW_", "XDG_")  # beginnings of the variables that a run gets
_KILLED = 5.0  # seconds for a task to end that was ended by force

log = logging.getLogger(__name__)


def run_on_ray(ledger: Ledger, supply: Supply, machine: Machine, at_once: int | None, retries: int, on_end: OnEnd) -> None:
    """Run the runs of a ledger on a Ray cluster; see :func:`metaloop.sweeps.launch.schedule.run_all`.

    Args:
        ledger: ledger of the sweep.
        supply: returns the needs of the runs, by key.
        machine: how many runs share a GPU, and how many threads a process on the CPU has.
        at_once: number of runs at once; None for as many as the cluster has room for.
        retries: how often a failed run is started again.
        on_end: called after each attempt that ended.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    with connected() as ray:
        run_all(ledger, supply, RayTasks(ray, ledger, machine, at_once, retries), retries, on_end)


@contextmanager
def connected() -> Iterator[Any]:
    """Connect to the cluster of ``RAY_ADDRESS``, to one on this machine, or to one that is started for the block.

    Returns:
        The module of Ray.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError("launcher=ray needs Ray, which is not installed: pip install 'metaloop[ray]'") from error
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry)
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, runtime_env={"env_vars": {"PYTHONPATH": path}})
    except (ConnectionError, RuntimeError, ValueError) as error:
        address = os.environ.get(ADDRESS)
        reason = " ".join(str(error).split())
        raise UserError(f"launcher=ray, {ADDRESS}={address}: no cluster can be used ({reason}); see ray status") from error
    for number, handler in handlers.items():  # Ray would end the process without a word
        signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


class RayTasks(Workplace):
    """Tasks of a Ray cluster.

    Args:
        ray: module of Ray, which is connected.
        ledger: ledger of the sweep.
        machine: how many runs share a GPU, and how many threads a process on the CPU has.
        at_once: number of runs at once; None for no limit.
        retries: how often a failed run is started again.
    """

    def __init__(self, ray: Any, ledger: Ledger, machine: Machine, at_once: int | None, retries: int) -> None:
        self._ray, self._ledger, self._machine, self._retries = ray, ledger, machine, retries
        self._at_once = at_once or sys.maxsize
        # A worker process ends with its run, so that no run finds what another has left in the process.
        self._task = ray.remote(max_retries=0, max_calls=1)(run_task)
        self._running: dict[str, tuple[Any, Job]] = {}  # the task, and the job before the start
        self._lost_early: Counter[str] = Counter()  # tasks that were lost before they claimed their run
        self._warned: set[Needs] = set()

    def capacity(self, needs: Needs) -> int:
        """The number of such runs that the cluster has room for now."""
        wanted = {"CPU": self._cpus(needs), "GPU": self._gpus(needs)}
        self._warn_of_waiting(needs, wanted)
        available = self._ray.available_resources()
        room = min(int(available.get(name, 0) // number) for name, number in wanted.items() if number)
        return min(room, self._at_once - len(self._running))

    def _cpus(self, needs: Needs) -> int:
        return self._machine.threads * max(needs.gpus, needs.processes)

    def _gpus(self, needs: Needs) -> float:
        if needs.gpus < 0:
            raise UserError("trainer.devices: a task of Ray needs a number of GPUs; set trainer.devices=1 or more, not all")
        return needs.gpus / self._machine.per_gpu if needs.gpus == 1 else needs.gpus

    def _warn_of_waiting(self, needs: Needs, wanted: Mapping[str, float]) -> None:
        """Say it if no machine of the cluster is large enough for a run. A cluster that grows may get one."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fits = any(all(machine.get(name, 0) >= number for name, number in wanted.items()) for machine in machines)
        if not fits and needs not in self._warned:
            self._warned.add(needs)
            resources = ", ".join(f"{number:g} {name}" for name, number in wanted.items() if number)
            print(f"waits               a run needs {resources}, which no machine of the cluster has now", flush=True)

    def running(self) -> Collection[str]:
        """Keys of the runs whose tasks were submitted here."""
        return self._running.keys()

    def start(self, job: Job, needs: Needs) -> bool:
        """Submit a task, which waits for its devices in Ray."""
        if len(self._running) >= self._at_once:
            return False
        check_links(self._ledger.directory / job.directory)
        task = self._task.options(num_cpus=self._cpus(needs), num_gpus=self._gpus(needs), name=job.directory)
        passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
        run = (str(self._ledger.directory), self._ledger.stale, job.key, self._machine.threads, self._retries)
        self._running[job.key] = task.remote(*run, str(Path.cwd()), passed), job
        return True

    def wait(self, seconds: float) -> None:
        """Wait until a task has ended. A task that was lost is a failure of its run."""
        tasks = [task for task, _ in self._running.values()]
        ended = set(self._ray.wait(tasks, num_returns=1, timeout=seconds)[0]) if tasks else set()
        for key in [key for key, (task, _) in self._running.items() if task in ended]:
            task, job = self._running.pop(key)
            try:
                code = self._ray.get(task)
            except self._ray.exceptions.RayTaskError as error:
                raise UserError(f"the task of {job.directory} could not begin: {_last_line(error)}") from error
            except self._ray.exceptions.RayError as error:
                self._lose(job, f"the worker of Ray was lost: {_last_line(error)}")
            else:
                if code and self._ledger.job(key).attempts == job.attempts:
                    raise UserError(f"the task of {job.directory} ended by exit code {code} before it began; see {LOG} there")

    def _lose(self, job: Job, reason: str) -> None:
        self._ledger.lose(job.key, job.attempts + 1, FAILED, reason)
        if self._ledger.job(job.key).attempts == job.attempts:
            self._lost_early[job.key] += 1
            if self._lost_early[job.key] > self._retries:
                raise UserError(
                    f"the task of {job.directory} was lost before it began, {self._lost_early[job.key]} times: {reason}"
                )

    def stop(self) -> None:
        """Interrupt all tasks, and end those by force that have not ended after a while."""
        tasks = [task for task, _ in self._running.values()]
        for task in tasks:
            self._ray.cancel(task)
        left = self._ray.wait(tasks, num_returns=len(tasks), timeout=GRACE)[1] if tasks else []
        for task in left:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(task, force=True)
        if left:
            self._ray.wait(left, num_returns=len(left), timeout=_KILLED)
        for _, job in self._running.values():
            self._ledger.lose(job.key, job.attempts + 1, INTERRUPTED)


def run_task(
    sweep: str, stale: float, key: str, threads: int, retries: int, folder: str, environment: Mapping[str, str]
) -> int:
    """Run a job: the main function of a task. Return its exit status.

    Raises:
        UserError: the machine does not have the sweep's folders.
    """
    if not Path(folder).is_dir() or not (Path(sweep) / LEDGER).exists():
        raise UserError(
            f"{socket.gethostname()} has no {folder} with the ledger of {sweep}; a sweep on Ray needs storage that all "
            "machines share under one path"
        )
    from metaloop.sweeps.launch.job import run_process

    os.chdir(folder)
    os.environ.update(environment)
    gpus = tuple(name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name)  # set by Ray
    return run_process(Ledger(Path(sweep), stale), key, gpus or (CPU,), threads, retries)


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
