"""Outer steps of metaloop, learn2learn, higher and torchopt in one run: tasks per second, memory, share of the machine's peak.

    python benchmarks/speed.py --peers VENV          # a virtual environment that has the peers; without it, metaloop alone
    python benchmarks/speed.py --peers VENV --cases a,c --rounds 9
    python benchmarks/speed.py --device cuda         # case a on a GPU

Each contestant is a process with its own interpreter. All start from the same weights and get the same tasks. Their
meta-gradients in float64 must agree before anything is timed; then they take turns. An outer step is a meta-gradient and a
step of Adam. Writes benchmarks/records/speed.json (speed_cuda.json on a GPU) and a plot beside it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from harness.cases import CASES, Case, load, quick, save
from harness.driver import RECORDS, Process, check_agreement, compare, contestants, distances, interleaved
from harness.machine import about, matrix_product_peak
from harness.plots import speed_plot
from harness.reference import meta_gradient, operations
from harness.tables import speed_rows, text_table

GPU_TESTS = Path(__file__).resolve().parents[1] / "tests" / "unit" / "inner" / "execution" / "test_gpu_path.py"
SEED = 0
CHECKED = 8  # tasks whose meta-gradient is compared in float64
WARM_UPS = 3


def measure(case: Case, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure one case: agreement, memory, rates and share of the machine's peak."""
    path = folder / "case.pt"
    save(case, path, case.meta_batch, SEED)
    _, weights, tasks = load(path)
    few = {name: value[:CHECKED] for name, value in tasks.items()}
    expected = meta_gradient(case, weights, few, torch.float64)
    result: dict[str, Any] = {"setting": asdict(case), "operations_per_task": operations(case, weights, tasks)}
    with contestants(path, arguments.peers, arguments.device, arguments.overrides) as processes:
        for process in processes.values():
            process.ask("outer_steps", count=2)  # metaloop now chooses how to run tasks, so the check runs what is timed
        check_agreement(distances(processes, "meta_gradient", "float64", CHECKED, expected), case.title)
        result["memory"] = {name: process.ask("memory") for name, process in processes.items()}
        for process in processes.values():
            process.ask("outer_steps", count=WARM_UPS if arguments.device == "cuda" else 1)
        times, peaks = _rounds(processes, arguments)
        result |= compare(times, case.meta_batch)
        result["about"] = {name: process.ask("about") for name, process in processes.items()}
        result["profile"] = processes["metaloop"].ask("profile") if arguments.device == "cpu" else None
    peak = max(peaks)
    shares = {name: rate["median"] * result["operations_per_task"] / peak for name, rate in result["rates"].items()}
    return result | {"matrix_product_peak": peak, "share_of_peak": shares}


def _rounds(processes: Mapping[str, Process], arguments: argparse.Namespace) -> tuple[dict[str, list[float]], list[float]]:
    """Times of the rounds, and the machine's peak before and after them."""
    seconds = 0.05 if arguments.quick else 1.0
    before = matrix_product_peak(arguments.device, seconds)
    times = interleaved(processes, "outer_steps", arguments.rounds, seconds)
    return times, [before, matrix_product_peak(arguments.device, seconds)]


def parser(text: str | None) -> argparse.ArgumentParser:
    """Make a parser of the words that the benchmarks of all cases take, with ``text`` as its help."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="virtual environment with learn2learn, higher and torchopt")
    parser.add_argument("--cases", type=_letters, help=f"letters of {','.join(CASES)}; default: all on the CPU, a on a GPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the benchmark; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record and the plot go")
    parser.add_argument("overrides", nargs="*", help="of metaloop's configuration, such as algorithm/over_tasks=loop")
    return parser


def _letters(text: str) -> list[str]:
    unknown = sorted(set(text.split(",")) - set(CASES))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(CASES)}")
    return text.split(",")


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record."""
    reader = parser(__doc__)
    reader.add_argument("--rounds", type=int, default=7)
    arguments = reader.parse_args(words)
    arguments.cases = arguments.cases or (["a"] if arguments.device == "cuda" else list(CASES))
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "no GPU found, so nothing is measured; the tests of the GPU's code path run on the CPU instead",
            flush=True,
        )
        subprocess.run([sys.executable, "-m", "pytest", str(GPU_TESTS)], cwd=GPU_TESTS.parents[3], check=True)
        return
    if arguments.peers is None:
        print("no --peers: metaloop alone")
    load_before, cases = os.getloadavg(), {}
    for letter in arguments.cases:
        case = quick(CASES[letter]) if arguments.quick else CASES[letter]
        with tempfile.TemporaryDirectory() as folder:
            cases[letter] = measure(case, arguments, Path(folder))
        print(text_table(speed_rows({letter: cases[letter]})), flush=True)
    _write(cases, load_before, arguments)


def _write(cases: dict[str, Any], load_before: Sequence[float], arguments: argparse.Namespace) -> None:
    from metaloop.records.writing import write_json

    record = {
        "benchmark": "speed", "quick": arguments.quick, "device": arguments.device, "seed": SEED, "rounds": arguments.rounds,
        "checked_tasks": CHECKED, "overrides": arguments.overrides, "cases": cases, **about(load_before),
    }  # fmt: skip
    arguments.records.mkdir(exist_ok=True)
    name = "speed" if arguments.device == "cpu" else f"speed_{arguments.device}"
    write_json(arguments.records / f"{name}.json", record)
    (arguments.records / f"{name}.png").write_bytes(speed_plot(cases))


if __name__ == "__main__":
    main()
