"""Distance of the meta-gradients of metaloop, learn2learn, higher, torchopt and plain autograd to plain autograd in float64.

    python benchmarks/agreement.py --peers VENV      # a virtual environment that has the peers; without it, metaloop alone

Every contestant gets the same weights and tasks, and runs them in the way that benchmarks/speed.py times. In float64 all must
agree. In float32 no two ways to sum agree: ReLU and pooling decisions that fall the other way make a distance a hundred times
that of rounding, for plain autograd as well. So float32 is measured with many weights and tasks, for all contestants the same,
and the medians are compared. Writes benchmarks/records/agreement.json.
"""

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness.cases import CASES, Case, load, quick, save
from harness.driver import Process, check_agreement, contestants, distances
from harness.machine import about
from harness.reference import distance, meta_gradient
from harness.tables import agreement_rows, precision_rows, text_table
from speed import CHECKED, SEED, parser

PLAIN = "plain autograd"
BAR = 1.2  # largest ratio of metaloop's median distance in float32 to that of plain autograd
FEWER = {"b": 15, "d": 9}  # most seeds of the cases in which one takes up to a minute
FEW = 2  # tasks of a meta-gradient: few, so that many weights and tasks show the typical distance; workers divide them


def measure(case: Case, seeds: int, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the distances of one case, by number format and contestant; ``seeds`` weights and tasks in float32."""
    path = folder / "case.pt"
    save(case, path, min(case.meta_batch, CHECKED), SEED)
    _, weights, tasks = load(path)
    few = {name: value[:FEW] for name, value in tasks.items()}
    exact = meta_gradient(case, weights, few, torch.float64)
    with contestants(path, arguments.peers, arguments.device, arguments.overrides, one_thread=True) as processes:
        for process in processes.values():
            process.ask("outer_steps", count=2)  # metaloop now chooses how to run tasks
        double = distances(processes, "meta_gradient", "float64", FEW, exact)
        check_agreement(double, case.title)
        single = [in_single(case, processes, path, SEED + i) for i in range(seeds)]
        chosen = processes["metaloop"].ask("about").get("gradient", "")
    values = {name: [each[name] for each in single] for name in single[0]}
    medians = {name: median(each) for name, each in values.items()}
    return {
        "float64": double,
        "float32": {name: {"median": medians[name], "worst": max(each), "values": each} for name, each in values.items()},
        "ratio": medians["metaloop"] / medians[PLAIN] if medians[PLAIN] else float("nan"),
        "chosen": chosen,
    }


def in_single(case: Case, processes: Mapping[str, Process], path: Path, seed: int) -> dict[str, float]:
    """Measure the distances in float32 with the weights and tasks of one seed."""
    save(case, path, FEW, seed)
    _, weights, tasks = load(path)
    exact = meta_gradient(case, weights, tasks, torch.float64)
    for process in processes.values():
        process.ask("change", path=str(path))
    plain = distance(meta_gradient(case, weights, tasks, torch.float32), exact)
    return {PLAIN: plain, **distances(processes, "meta_gradient", "float32", FEW, exact)}


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record after every case."""
    from metaloop.records.writing import write_json

    reader = parser(__doc__)
    reader.add_argument("--seeds", type=int, default=25, help="weights and tasks whose float32 meta-gradients are compared")
    arguments, load_before, cases = reader.parse_args(words), os.getloadavg(), {}
    torch.set_num_threads(1)  # for the reference, as for the peers: threads would only change the order of sums
    arguments.records.mkdir(exist_ok=True)
    for letter in arguments.cases or CASES:
        case = quick(CASES[letter]) if arguments.quick else CASES[letter]
        with tempfile.TemporaryDirectory() as folder:
            cases[letter] = measure(case, min(arguments.seeds, FEWER.get(letter, arguments.seeds)), arguments, Path(folder))
        print(text_table(precision_rows({letter: cases[letter]})), flush=True)
        record = {
            "benchmark": "agreement", "quick": arguments.quick, "device": arguments.device, "seed": SEED,
            "seeds": arguments.seeds, "tasks": FEW, "bar": BAR, "overrides": arguments.overrides,
            "cases": dict(sorted(cases.items())), **about(load_before),
        }  # fmt: skip
        write_json(arguments.records / "agreement.json", record)
    print(text_table(agreement_rows(cases)), flush=True)


if __name__ == "__main__":
    main()
