"""Tasks divided among processes of one thread each, which on a CPU is faster than threads within an operation."""

import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping
from itertools import pairwise
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from metaloop.errors import UserError
from metaloop.inner.autodiff import Autodiff
from metaloop.inner.execution.over_tasks import (
    Loop,
    OverTasks,
    Result,
    Run,
    TaskGradient,
    TaskLoss,
    Tree,
    kind_of,
    of_gradients,
    of_losses,
)
from metaloop.inner.execution.shared import Arena
from metaloop.system.cores import available_cores
from metaloop.system.memory import peak
from metaloop.types import Params, Tasks

_START = (
    "import sys; sys.path[:] = {path!r}; from metaloop.inner.execution.worker import main; main({pipe}, {requests}, {replies})"
)
# One thread. The rest makes glibc keep large blocks, which it would otherwise free and fault in again in every step.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
}
_Run = Callable[[OverTasks, Any, Params, Tasks], tuple[Params, Params]]  # of a strategy and its per-task function


class Workers(OverTasks):
    """One process a core, this process included, each with a contiguous part of the meta-batch.

    The numbers are those of ``within``, except for the order of the sum over tasks, which is fixed: process by process. Each
    process draws its random numbers from a seed that this process's generator draws.

    Args:
        processes: number of processes, this one included; None for one a core (divided among the ranks of a distributed run).
        within: strategy that each process runs its part with; None for the loop.
    """

    def __init__(self, processes: int | None = None, within: OverTasks | None = None) -> None:
        if processes is not None and processes < 1:
            raise UserError(f"algorithm.over_tasks.processes={processes}: at least 1, or null for the number of cores")
        if os.name != "posix":
            raise UserError("algorithm.over_tasks=workers needs Linux or macOS; take algorithm/over_tasks=loop")
        self.processes = processes
        self.within = within or Loop()
        self._others: list[_Process] = []

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the processes, which cannot be pickled."""
        return {**self.__dict__, "_others": []}

    @property
    def name(self) -> str:
        """See :attr:`OverTasks.name`."""
        return ("" if isinstance(self.within, Loop) else f"{self.within.name}, ") + "workers"

    def choices(self) -> dict[str, str]:
        """See :meth:`OverTasks.choices`."""
        return {}

    def restore(self, choices: Mapping[str, str]) -> None:
        """See :meth:`OverTasks.restore`."""

    def mean_gradient(self, task: TaskLoss, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_gradient`."""
        self.check(kind_of(task), lambda strategy, m, t: strategy.mean_gradient(task, m, t), meta, tasks)
        return self._mean(of_losses, task, meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        self.check(kind_of(task), lambda strategy, m, t: strategy.mean_of_gradients(task, m, t), meta, tasks)
        return self._mean(of_gradients, task, meta, tasks)

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`; runs in this process."""
        return self.within.map(function, trees)

    def check(self, kind: str, run: Run, meta: Params, tasks: Tasks) -> None:
        """See :meth:`OverTasks.check`; the strategy that the processes get has then been checked."""
        self.within.check(kind, run, meta, tasks)

    def close(self) -> None:
        """End the other processes; the next call starts them again."""
        if self._others:
            self.memory_before_close = self.memory_before_close.largest(peak())
        for process in self._others:
            process.end()
        self._others = []

    def _mean(self, run: _Run, task: Any, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        if any(value.device.type != "cpu" for value in meta.values()):
            raise UserError("algorithm.over_tasks=workers runs on the CPU alone; on a GPU take algorithm/over_tasks=auto")
        parts = _parts(tasks, self.processes or cores())
        while len(self._others) < len(parts) - 1:
            self._others.append(_Process())
        plain = {name: value.detach() for name, value in meta.items()}
        seed = int(torch.randint(2**62, ()))
        try:
            for i, (process, part) in enumerate(zip(self._others, parts[1:], strict=False)):
                # As a tensor, so that equal steps are equal requests.
                process.ask((run, self.within, task, plain, part, torch.tensor(seed + i + 1)))
            results = [self._in_this_process(run, task, meta, parts[0], seed)]
            results += [process.answer() for process in self._others[: len(parts) - 1]]
        except BaseException:  # answers that are still to come would be mistaken for those of the next call
            self.close()
            raise
        shares = [len(part) / len(tasks) for part in parts]
        mean = tree_map(
            lambda *values: sum((s * v for s, v in zip(shares[1:], values[1:], strict=True)), shares[0] * values[0]),
            *(gradients for gradients, _ in results),
        )
        return mean, tree_map(lambda *values: torch.cat(values), *(auxiliary for _, auxiliary in results))

    def _in_this_process(self, run: _Run, task: Any, meta: Params, part: Tasks, seed: int) -> tuple[Params, Params]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return run(self.within, task, meta, part)
        finally:
            torch.set_num_threads(threads)


class _Process:
    """Another process, with the pipe and the memory that it shares with this one."""

    def __init__(self) -> None:
        self._pipe, other_end = Pipe()
        self._requests, self._replies = Arena(), Arena()
        descriptors = {
            "pipe": other_end.fileno(),
            "requests": self._requests.descriptor,
            "replies": self._replies.descriptor,
        }
        command = _START.format(path=[path or str(Path.cwd()) for path in sys.path], **descriptors)
        self._process = subprocess.Popen(
            [sys.executable, "-c", command],
            pass_fds=list(descriptors.values()),
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
        )
        other_end.close()
        arenas = (self._requests.descriptor, self._replies.descriptor)
        self.end = weakref.finalize(self, _end, self._process, self._pipe, arenas)  # at the latest when the interpreter exits

    def ask(self, request: Any) -> None:
        """Send a request; raises if it cannot be pickled."""
        self._pipe.send_bytes(self._requests.dumps(request))

    def answer(self) -> Any:
        """Return the result of the last request, or raise its error."""
        try:
            outcome, result, *rest = self._replies.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError) as error:
            code = self._process.wait()
            raise RuntimeError(
                f"a worker process ended by itself, with exit code {code}; it may have run out of memory"
            ) from error
        if outcome == "failed":
            result.add_note(f"in a worker process:\n{rest[0]}")
            raise result
        return result


def _end(process: subprocess.Popen[bytes], pipe: Connection, descriptors: tuple[int, ...]) -> None:
    pipe.close()  # a waiting process then ends
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:  # busy with a result that nobody needs
        process.kill()
        process.wait()
    for descriptor in descriptors:
        os.close(descriptor)


def _parts(tasks: Tasks, processes: int) -> list[Tasks]:
    """Divide the tasks into contiguous parts whose sizes differ by at most one, larger ones first; none is empty."""
    size, more = divmod(len(tasks), processes)
    ends = [i * size + min(i, more) for i in range(min(processes, len(tasks)) + 1)]
    return [tasks[start:end] for start, end in pairwise(ends)]


def cores() -> int:
    """Return the number of cores that this process may use: torch's threads, divided among the ranks of a distributed run."""
    all_cores = min(available_cores(), torch.get_num_threads())  # OMP_NUM_THREADS=1 limits a run to one core
    ranks = torch.distributed.get_world_size() if torch.distributed.is_available() and torch.distributed.is_initialized() else 1
    return max(1, all_cores // ranks)
