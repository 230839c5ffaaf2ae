"""Time of a run in a process that has everything imported: the ideal of launchers."""

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
    """Measure one run for each number of outer steps in ``steps``: seconds, processor seconds, and seconds of its training.

    A run lasts from its composed config to its report. It has one thread.
    """
    import torch

    from metaloop.records.schema import RunIdentity
    from metaloop.records.typed_json import decode
    from metaloop.runs.start import start
    from metaloop.sweeps.compose import compose_runs
    from metaloop.sweeps.plan import Plan

    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as parent, Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        for number, count in enumerate(steps):
            (planned,) = compose_runs(Plan("warm", overrides={**words, **length(count), "seed": str(number)}), [])
            before, used = time.perf_counter(), time.process_time()
            identity = decode(RunIdentity, planned.description, planned.directory)
            record = start(identity, Path(parent) / str(number), resume=False)
            took = {"seconds": time.perf_counter() - before, "processor": time.process_time() - used}
            results.append({**took, "training": record.training.wall_seconds if record.training else None})
    return results


def length(steps: int) -> dict[str, str]:
    """Overrides of a run with ``steps`` outer steps that is validated once."""
    return {"trainer.max_steps": str(steps), "validation.every": str(steps)}


def in_processes(words: Mapping[str, str], steps: Sequence[int], processes: int) -> list[dict[str, float]]:
    """Measure the same in several fresh processes at once; the first run of each warms it up and is left out."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        results = [pool.submit(one_after_another, words, [steps[0], *steps]) for _ in range(processes)]
        return [run for each in results for run in each.result()[1:]]


def steps_for(words: Mapping[str, str], seconds: float) -> int:
    """Number of outer steps, at least one, with which a warm run lasts ``seconds``."""
    few, many = 10, 60
    runs = in_processes(words, [few, many] * 3, 1)
    short, long = (statistics.median(run["seconds"] for run in runs[i::2]) for i in (0, 1))
    return max(1, round(few + (seconds - short) * (many - few) / max(long - short, 1e-3)))
