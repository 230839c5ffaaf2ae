"""What a run takes in a process that has everything imported: the ideal of launchers."""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path


def one_after_another(words: Mapping[str, str], steps: Sequence[int]) -> list[dict[str, float]]:
    """Seconds and processor seconds of a run with so many outer steps, and what of it is training; one for each of ``steps``.

    A run is everything from its composed config to its report. It has one thread.
    """
    import torch

    from metaloop.records.schema import RunIdentity
    from metaloop.records.typed_json import decode
    from metaloop.runs.start import start
    from metaloop.sweeps.compose import compose_runs
    from metaloop.sweeps.plan import Plan

    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as parent, Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        for number, count in enumerate(steps):
            (planned,) = compose_runs(Plan("warm", overrides={**words, **length(count), "seed": str(number)}), [])
            before, used = time.perf_counter(), time.process_time()
            identity = decode(RunIdentity, planned.description, planned.directory)
            record = start(identity, Path(parent) / str(number), resume=False)
            took = {"seconds": time.perf_counter() - before, "processor": time.process_time() - used}
            found.append({**took, "training": record.training.wall_seconds if record.training else None})
    return found


def length(steps: int) -> dict[str, str]:
    """The overrides of a run of so many outer steps, validated once."""
    return {"trainer.max_steps": str(steps), "validation.every": str(steps)}


def in_processes(words: Mapping[str, str], steps: Sequence[int], processes: int) -> list[dict[str, float]]:
    """The same in so many fresh processes at once, each without its first run, which warms it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        found = [pool.submit(one_after_another, words, [steps[0], *steps]) for _ in range(processes)]
        return [run for each in found for run in each.result()[1:]]


def steps_for(words: Mapping[str, str], seconds: float) -> int:
    """How many outer steps make a warm run last so long, at least one."""
    few, many = 10, 60
    runs = in_processes(words, [few, many] * 3, 1)
    short, long = (statistics.median(run["seconds"] for run in runs[i::2]) for i in (0, 1))
    return max(1, round(few + (seconds - short) * (many - few) / max(long - short, 1e-3)))
