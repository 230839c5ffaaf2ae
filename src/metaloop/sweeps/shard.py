"""One part of a sweep's runs, for array jobs: every run is in exactly one of the parts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaloop.errors import UserError

_FORMS = "--shard I/N with I from 0 to N-1, or --shard auto (auto/N for a Kubernetes job)"
_VARIABLES = (
    "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT (Slurm), JOB_COMPLETION_INDEX (Kubernetes), SKYPILOT_NODE_RANK and "
    "SKYPILOT_NUM_NODES (SkyPilot)"
)


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` parts of a sweep.

    Raises:
        UserError: there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"--shard {self}: the number of shards must be at least 1; {_FORMS}")
        if not 0 <= self.index < self.count:
            raise UserError(f"--shard {self}: the shard must be from 0 to {self.count - 1}; {_FORMS}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> "Shard":
        """Parse the value of ``--shard``: I/N, auto, or auto/N.

        Args:
            text: The value.
            environment: Environment of an array job, for ``auto``.

        Raises:
            UserError: it has another form, or the environment is not that of an array job.
        """
        first, _, count = text.partition("/")
        if first == "auto":
            return _of_array_job(count, environment)
        return cls(_number(first, text), _number(count, text))

    def of(self, keys: Sequence[str]) -> list[str]:
        """The runs of this part, in their order.

        Each group of ``count`` consecutive runs has one run for each part, and the run's hash decides which. So the parts
        are equally large, no part gets all runs with one setting, and runs that are appended move no other.

        Args:
            keys: Hashes of all runs, as hexadecimal numbers, in the order of the sweep.
        """
        mine, free = [], list[int]()
        for key in keys:
            free = free or list(range(self.count))
            if free.pop(int(key, 16) % len(free)) == self.index:
                mine.append(key)
        return mine


def _of_array_job(count: str, environment: Mapping[str, str]) -> Shard:
    if "SLURM_ARRAY_TASK_ID" in environment:
        shard = _of_slurm(environment)
    elif "JOB_COMPLETION_INDEX" in environment:
        if not count:
            raise UserError("--shard auto: Kubernetes does not tell a pod the number of completions; write --shard auto/N")
        shard = Shard(_variable("JOB_COMPLETION_INDEX", environment), _number(count, f"auto/{count}"))
    elif "SKYPILOT_NODE_RANK" in environment:
        shard = Shard(_variable("SKYPILOT_NODE_RANK", environment), _variable("SKYPILOT_NUM_NODES", environment))
    else:
        raise UserError(f"--shard auto: this is no array job, because none of these is set: {_VARIABLES}; write --shard I/N")
    if count and str(shard.count) != count:
        raise UserError(f"--shard auto/{count}: the job has {shard.count} parts; write --shard auto")
    return shard


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    """The position of a task in an array of equal steps, such as 0-9, 1-10 or 0-18:2."""
    task, count = (_variable(f"SLURM_ARRAY_TASK_{name}", environment) for name in ("ID", "COUNT"))
    low = int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
    step = int(environment.get("SLURM_ARRAY_TASK_STEP", 1))
    high = int(environment.get("SLURM_ARRAY_TASK_MAX", low + step * (count - 1)))
    if high != low + step * (count - 1):
        raise UserError(
            f"--shard auto: the array's tasks from {low} to {high} are not {count} equal steps of {step}, so the position of "
            f"task {task} is unknown; use an array such as 0-{count - 1}, or write --shard I/{count}"
        )
    return Shard((task - low) // step, count)


def _variable(name: str, environment: Mapping[str, str]) -> int:
    value = environment.get(name, "")
    if not re.fullmatch(r"\d+", value):
        raise UserError(f"--shard auto: {name}={value!r} must be a whole number; write --shard I/N")
    return int(value)


def _number(word: str, text: str) -> int:
    if not re.fullmatch(r"-?\d+", word):
        raise UserError(f"--shard {text}: write {_FORMS}")
    return int(word)
