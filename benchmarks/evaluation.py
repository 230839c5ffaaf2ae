"""Evaluation on 600 episodes of case a (adapt to the support set, predict the queries): episodes per second, beside the peers.

    python benchmarks/evaluation.py --peers VENV     # VENV as for speed.py; without it, metaloop alone

All predictions must agree in float64 before anything is timed. Writes benchmarks/records/evaluation.json.
"""

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from harness.cases import CASES, Case, load, quick, save
from harness.driver import RECORDS, check_agreement, compare, contestants, distances, interleaved
from harness.machine import about
from harness.reference import answers
from harness.tables import rate_rows, text_table

SEED, CHECKED = 0, 8


def measure(case: Case, episodes: int, rounds: int, peers: Path | None, folder: Path) -> dict[str, Any]:
    """Check agreement and measure all contestants."""
    path = folder / "case.pt"
    save(case, path, episodes, SEED)
    _, weights, tasks = load(path)
    expected = answers(case, weights, {name: value[:CHECKED] for name, value in tasks.items()}, torch.float64)
    with contestants(path, peers, "cpu") as processes:
        for process in processes.values():
            process.ask("evaluations", count=1)
        far = distances(processes, "answers", "float64", CHECKED, {"answers": expected})
        check_agreement(far, "answers")
        times = interleaved(processes, "evaluations", rounds, 0.0)
        versions = {name: process.ask("about") for name, process in processes.items()}
    return {"setting": asdict(case), "distance": far, "about": versions, **compare(times, episodes)}


def main(words: list[str] | None = None) -> None:
    """Measure, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="virtual environment with learn2learn, higher and torchopt")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the benchmark; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    load_before = os.getloadavg()
    case, episodes = (quick(CASES["a"]), 8) if arguments.quick else (CASES["a"], arguments.episodes)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(case, episodes, arguments.rounds, arguments.peers, Path(folder))
    print(text_table(rate_rows({"a": result}, "episodes/s")))
    from metaloop.records.writing import write_json

    arguments.records.mkdir(exist_ok=True)
    head = {"benchmark": "evaluation", "quick": arguments.quick, "seed": SEED, "episodes": episodes, "rounds": arguments.rounds}
    write_json(arguments.records / "evaluation.json", {**head, "cases": {"a": result}, **about(load_before)})


if __name__ == "__main__":
    main()
