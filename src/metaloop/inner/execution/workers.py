"""Tasks shared between processes of one thread each: on a CPU, side by side beats threads within an operation."""

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
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Result, TaskGradient, TaskLoss, Tree
from metaloop.inner.execution.shared import Arena
from metaloop.system.cores import available_cores
from metaloop.types import Params, Tasks

_START = (
    "import sys; sys.path[:] = {path!r}; from metaloop.inner.execution.worker import main; main({pipe}, {requests}, {replies})"
)
# One thread; and glibc keeps the large blocks that it would give back to the system and fault in again every step.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
}


class Workers(OverTasks):
    """As many processes as cores, this one among them, each with a contiguous part of the meta-batch.

    The same numbers as ``within`` gives, but for the order of the sum over tasks, which is fixed: process by process. Random
    numbers are drawn in each process from a seed that this one's generator gives.

    Args:
        processes: in all; None for as many as there are cores (shared with the other ranks of a distributed run).
        within: how a process runs its part; None for the loop.
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
        """Processes stay where they are."""
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
        return self._mean("mean_gradient", task, meta, tasks)

    def mean_of_gradients(self, task: TaskGradient, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        """See :meth:`OverTasks.mean_of_gradients`."""
        return self._mean("mean_of_gradients", task, meta, tasks)

    def map(self, function: Callable[[Tree, Autodiff], Result], trees: Tree) -> Result:
        """See :meth:`OverTasks.map`; done in this process."""
        return self.within.map(function, trees)

    def close(self) -> None:
        """End the other processes; the next call starts them again."""
        for process in self._others:
            process.end()
        self._others = []

    def _mean(self, method: str, task: Any, meta: Params, tasks: Tasks) -> tuple[Params, Params]:
        if any(value.device.type != "cpu" for value in meta.values()):
            raise UserError("algorithm.over_tasks=workers runs on the CPU alone; on a GPU take algorithm/over_tasks=auto")
        parts = _parts(tasks, self.processes or cores())
        while len(self._others) < len(parts) - 1:
            self._others.append(_Process())
        plain = {name: value.detach() for name, value in meta.items()}
        seed = int(torch.randint(2**62, ()))
        try:
            for i, (process, part) in enumerate(zip(self._others, parts[1:], strict=False)):
                process.ask((self.within, method, task, plain, part, seed + i + 1))
            results = [self._own(method, task, meta, parts[0], seed)]
            results += [process.answer() for process in self._others[: len(parts) - 1]]
        except BaseException:  # answers still to come would be taken for those of the next call
            self.close()
            raise
        shares = [len(part) / len(tasks) for part in parts]
        mean = tree_map(
            lambda *values: sum((s * v for s, v in zip(shares[1:], values[1:], strict=True)), shares[0] * values[0]),
            *(gradients for gradients, _ in results),
        )
        return mean, tree_map(lambda *values: torch.cat(values), *(aside for _, aside in results))

    def _own(self, method: str, task: Any, meta: Params, part: Tasks, seed: int) -> tuple[Params, Params]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return getattr(self.within, method)(task, meta, part)
        finally:
            torch.set_num_threads(threads)


class _Process:
    """One other process, and what it shares with this one."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        self._requests, self._replies = Arena(), Arena()
        descriptors = {
            "pipe": theirs.fileno(),
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
        theirs.close()
        held = (self._requests.descriptor, self._replies.descriptor)
        self.end = weakref.finalize(self, _end, self._process, self._pipe, held)  # at the latest when the interpreter exits

    def ask(self, request: Any) -> None:
        """Have a share computed; what cannot be pickled raises here."""
        self._pipe.send_bytes(self._requests.dumps(request))

    def answer(self) -> Any:
        """The result of the last request; raises what it raised."""
        try:
            outcome, result, *rest = self._replies.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionError) as error:
            code = self._process.wait()
            raise RuntimeError(f"a worker process ended by itself, with exit code {code}; was the memory enough?") from error
        if outcome == "failed":
            result.add_note(f"in a worker process:\n{rest[0]}")
            raise result
        return result


def _end(process: subprocess.Popen[bytes], pipe: Connection, descriptors: tuple[int, ...]) -> None:
    pipe.close()  # which a waiting process takes for the end
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:  # busy; its result has no taker
        process.kill()
        process.wait()
    for descriptor in descriptors:
        os.close(descriptor)


def _parts(tasks: Tasks, processes: int) -> list[Tasks]:
    """Contiguous parts whose sizes differ by one at most, the larger ones first; none is empty."""
    size, more = divmod(len(tasks), processes)
    ends = [i * size + min(i, more) for i in range(min(processes, len(tasks)) + 1)]
    return [tasks[start:end] for start, end in pairwise(ends)]


def cores() -> int:
    """How many this process may use: as many as torch has threads, shared with the other ranks of a distributed run."""
    all_cores = min(available_cores(), torch.get_num_threads())  # OMP_NUM_THREADS=1 asks for a run that leaves the others alone
    ranks = torch.distributed.get_world_size() if torch.distributed.is_available() and torch.distributed.is_initialized() else 1
    return max(1, all_cores // ranks)
