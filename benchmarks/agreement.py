"""Distance of the meta-gradients of metaloop, learn2learn, higher, torchopt and plain autograd to plain autograd in float64.

    python benchmarks/agreement.py --peers VENV      # a virtual environment that has the peers; without it, metaloop alone

Every contestant gets the same weights and tasks, and runs them in the way that benchmarks/speed.py times. In float32, plain
autograd is measured too: what all have in common is rounding, often a few ReLU or pooling decisions that fall the other way.
Writes benchmarks/records/agreement.json.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from harness.cases import CASES, Case, load, quick, save
from harness.driver import check_agreement, contestants, distances
from harness.machine import about
from harness.reference import distance, meta_gradient
from harness.tables import agreement_rows, text_table
from speed import CHECKED, SEED, parse


def measure(case: Case, peers: Path | None, device: str, overrides: list[str], folder: Path) -> dict[str, Any]:
    """Measure the distances of one case, by number format and contestant."""
    path = folder / "case.pt"
    save(case, path, case.meta_batch, SEED)
    _, weights, tasks = load(path)
    few = {name: value[:CHECKED] for name, value in tasks.items()}
    exact = meta_gradient(case, weights, few, torch.float64)
    with contestants(path, peers, device, overrides) as processes:
        for process in processes.values():
            process.ask("outer_steps", count=1)  # metaloop now chooses how to run tasks
        found = {dtype: distances(processes, "meta_gradient", dtype, CHECKED, exact) for dtype in ("float64", "float32")}
    check_agreement(found["float64"], case.title)
    plain = distance(meta_gradient(case, weights, few, torch.float32), exact)
    return {"distance": {**found, "float32": {"plain autograd": plain, **found["float32"]}}}


def main(words: list[str] | None = None) -> None:
    """Measure, print the table and write the record."""
    from metaloop.records.writing import write_json

    arguments, load_before, cases = parse(words), os.getloadavg(), {}
    for letter in arguments.cases:
        case = quick(CASES[letter]) if arguments.quick else CASES[letter]
        with tempfile.TemporaryDirectory() as folder:
            cases[letter] = measure(case, arguments.peers, arguments.device, arguments.overrides, Path(folder))
    print(text_table(agreement_rows(cases)), flush=True)
    record = {
        "benchmark": "agreement", "quick": arguments.quick, "device": arguments.device, "seed": SEED,
        "checked_tasks": CHECKED, "overrides": arguments.overrides, "cases": cases, **about(load_before),
    }  # fmt: skip
    arguments.records.mkdir(exist_ok=True)
    write_json(arguments.records / "agreement.json", record)


if __name__ == "__main__":
    main()
