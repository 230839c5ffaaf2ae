"""Effect of Conv-4's C++ kernels: the same meta-gradients with and without them, in turn, in one process.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py

Tasks run in a loop on one thread. Speed is processor time, which other work on the machine disturbs least. Memory is the peak
beyond the imports of a fresh process that takes one task's meta-gradient. Precision is the distance of the float32
meta-gradient to plain autograd in float64, for several weights and tasks. Writes benchmarks/records/kernels.json.
"""

import argparse
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from harness import reference
from harness.cases import CASES, Batch, Case, make_tasks, plain_model, quick
from harness.driver import RECORDS, interval
from harness.machine import about
from harness.ours import Metaloop
from harness.tables import kernel_rows, text_table
from memory import measure as measure_memory
from torch import Tensor

TASKS = {"a": 8, "d": 1, "f": 32}  # tasks of a meta-gradient, by case
LOOP = "algorithm/over_tasks=loop"
ON_AND_OFF = {"kernels": "true", "plain": "false"}


def learners(case: Case, weights: dict[str, Tensor]) -> dict[str, Metaloop]:
    """Build a learner that runs the kernels and one that does not."""
    return {name: Metaloop(case, weights, "cpu", [LOOP, f"model.kernels={value}"]) for name, value in ON_AND_OFF.items()}


def made(case: Case, seed: int) -> tuple[dict[str, Tensor], Batch]:
    """Make starting weights and tasks."""
    torch.manual_seed(seed)
    return plain_model(case).state_dict(), make_tasks(case, case.meta_batch, seed)


def speed(both: dict[str, Metaloop], tasks: Batch, rounds: int) -> dict[str, list[float]]:
    """Measure seconds of processor time per task in each round; the two learners take turns, and the order alternates."""
    times: dict[str, list[float]] = {name: [] for name in both}
    for turn in range(rounds + 1):  # the first warms up
        for name in sorted(both, reverse=bool(turn % 2)):
            start = time.process_time()
            both[name].meta_gradient(tasks)
            times[name].append((time.process_time() - start) / len(tasks["support_x"]))
    return {name: seconds[1:] for name, seconds in times.items()}


def memory(case: Case, repeats: int) -> dict[str, float]:
    """Measure the peak in bytes, beyond the imports, of a process that takes one meta-gradient."""
    words = {name: [LOOP, "untuned", f"model.kernels={value}"] for name, value in ON_AND_OFF.items()}
    return {name: measure_memory(case, "metaloop", sys.executable, words[name], repeats)["net"] for name in words}


def distances(case: Case, seeds: int) -> dict[str, list[float]]:
    """Measure distances to the float64 meta-gradient of plain autograd, relative to its norm, by seed.

    The entry "autograd" is plain autograd in float32.
    """
    results: dict[str, list[float]] = {name: [] for name in (*ON_AND_OFF, "autograd")}
    for seed in range(seeds):
        weights, tasks = made(case, seed)
        exact = reference.meta_gradient(case, weights, tasks, torch.float64)
        for name, each in learners(case, weights).items():
            each.meta_gradient(tasks)
            gradient = {key: value.grad for key, value in each.model.named_parameters() if value.grad is not None}
            results[name].append(reference.distance({**dict.fromkeys(exact, torch.zeros(())), **gradient}, exact))
        results["autograd"].append(reference.distance(reference.meta_gradient(case, weights, tasks, torch.float32), exact))
    return results


def measure(case: Case, rounds: int, seeds: int) -> dict[str, Any]:
    """Measure speed, memory and precision of one case."""
    weights, tasks = made(case, 0)
    both = learners(case, weights)
    seconds = speed(both, tasks, rounds)
    ratios = [plain / kernels for plain, kernels in zip(seconds["plain"], seconds["kernels"], strict=True)]
    return {
        "setting": asdict(case),
        "seconds": {name: interval(values) for name, values in seconds.items()},
        "rounds": seconds,
        "speed_up": interval(ratios),
        "memory": memory(case, repeats=1 if rounds < 3 else 3),
        "distance": {name: interval(values) for name, values in distances(replace(case, meta_batch=1), seeds).items()},
    }


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=7, help="weights and tasks whose meta-gradients are compared")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the benchmark; its numbers mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    load_before = os.getloadavg()
    cases = {}
    for letter in arguments.cases:
        case = quick(CASES[letter]) if arguments.quick else replace(CASES[letter], meta_batch=TASKS[letter])
        cases[letter] = measure(case, arguments.rounds, arguments.seeds)
        print(text_table(kernel_rows({letter: cases[letter]})), flush=True)
    from metaloop.records.writing import write_json

    head = {"benchmark": "kernels", "quick": arguments.quick, "rounds": arguments.rounds, "seeds": arguments.seeds}
    path = arguments.records / "kernels.json"
    write_json(path, {**head, "cases": cases, **about(load_before)})


if __name__ == "__main__":
    main()
