"""Peak memory of one task's meta-gradient against the number of inner steps, by method, beside the peers.

    python benchmarks/memory.py --peers VENV         # VENV as for speed.py; Conv-4-32, 84x84x3, 5-way 1-shot, 15 queries
    python benchmarks/memory.py --steps 1 5 --quick

Every point is the median over several processes that each take one meta-gradient. For all contestants, glibc returns every
large block when it is freed (MALLOC_MMAP_THRESHOLD_), so the benchmark measures live memory and not what an allocator keeps.
A method stops when its next point is expected to exceed the limit. Writes benchmarks/records/memory.json and a plot beside it.
"""

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.cases import CASES, Case, quick, save
from harness.driver import RECORDS, Process
from harness.machine import about
from harness.peers import PEERS
from harness.plots import memory_plot
from harness.tables import memory_rows, seconds_rows, text_table

STEPS = [1, 2, 5, 10, 20, 50, 100, 200]
METHODS = {  # options of conf/algorithm/meta_gradient, and the overrides that they need
    "unrolled": [],
    "reverse_sweep": [],
    "implicit_cg": ["algorithm.proximal=1.0"],
    "first_order": [],
}
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000", "MALLOC_TRIM_THRESHOLD_": "65536"}
Points = dict[str, dict[str, float]]  # by inner steps


def measure(case: Case, name: str, python: str, overrides: list[str], repeats: int) -> dict[str, float]:
    """Median peaks in bytes (of the whole process, and beyond the imports) and the best time in seconds of fresh processes."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.pt"
        save(case, path, 1, 0)
        for _ in range(repeats):
            with Process("learner", name, python, [str(path), "cpu", *overrides], ENVIRONMENT) as process:
                samples.append(process.ask("one_meta_gradient"))
    middle = {key: statistics.median(each[key] for each in samples) for key in ("peak", "net")}
    spread = max(each["peak"] for each in samples) - min(each["peak"] for each in samples)
    return {**middle, "spread": spread, "seconds": min(each["seconds"] for each in samples)}


def sweep(case: Case, name: str, python: str, overrides: list[str], arguments: argparse.Namespace) -> Points:
    """Measure one method at all numbers of steps until it is expected to exceed the limit."""
    points: Points = {}
    peaks: list[tuple[int, float]] = []
    for steps in sorted(arguments.steps):
        if peaks and _expected(peaks, steps) > arguments.limit * 1e9:
            break
        words = [*overrides, f"algorithm.steps={steps}"] if name == "metaloop" else []
        point = measure(replace(case, steps=steps), name, python, words, arguments.repeats)
        points[str(steps)] = point
        peaks.append((steps, point["peak"]))
    return points


def _expected(peaks: list[tuple[int, float]], steps: int) -> float:
    """Extrapolate the peak at ``steps`` along the line through the last two points."""
    (a, low), (b, high) = peaks[-2:] if len(peaks) > 1 else [(0, 0.0), *peaks]
    return high + max(0.0, high - low) / (b - a) * (steps - b) if len(peaks) > 1 else high


def methods(chosen: list[str], peers: Path | None) -> dict[str, tuple[str, str, list[str]]]:
    """Contestant, interpreter and metaloop's overrides for each row of the table."""
    loop = ["algorithm/over_tasks=loop", "untuned"]
    rows = {}
    for name in chosen:
        words = [f"algorithm/meta_gradient={name}", *METHODS.get(name, []), *loop]
        rows[name] = ("metaloop", sys.executable, words)
    return rows | ({name: (name, str(peers / "bin" / "python"), []) for name in PEERS} if peers else {})


def offered() -> list[str]:
    """The `METHODS` that exist in the configuration."""
    from metaloop.config.folder import conf_dir

    return [name for name in METHODS if (conf_dir() / "algorithm" / "meta_gradient" / f"{name}.yaml").exists()]


def ratios(points: dict[str, Points]) -> dict[str, float]:
    """Ratios of the memory of many second-order steps, swept back, to that of one step, unrolled and swept."""
    swept, unrolled = points.get("reverse_sweep", {}), points.get("unrolled", {})
    if not swept or "1" not in unrolled:
        return {}
    most, least = swept[max(swept, key=int)], swept[min(swept, key=int)]
    if not (unrolled["1"]["net"] and least["net"]):
        return {}  # too small to measure, as in a quick run
    return {
        "steps": float(max(swept, key=int)),
        "peak": most["peak"] / unrolled["1"]["peak"],
        "net": most["net"] / unrolled["1"]["net"],
        "net_against_one_swept": most["net"] / least["net"],
    }


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="virtual environment with learn2learn, higher and torchopt")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--methods", nargs="+", default=offered(), help="options of algorithm/meta_gradient")
    parser.add_argument("--limit", type=float, default=6.0, help="GB that no point may be expected to exceed")
    parser.add_argument("--repeats", type=int, default=3, help="processes a point")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the benchmark; its numbers mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record and the plot go")
    arguments = parser.parse_args(words)
    load_before = os.getloadavg()
    case = replace(quick(CASES["d"]) if arguments.quick else CASES["d"], meta_batch=1)
    points: dict[str, Points] = {}
    for row, (name, python, overrides) in methods(arguments.methods, arguments.peers).items():
        points[row] = sweep(case, name, python, overrides, arguments)
        print(text_table(memory_rows({row: points[row]}, "net")), flush=True)
    _write(points, arguments, about(load_before), case)


def _write(points: dict[str, Points], arguments: argparse.Namespace, machine: dict[str, Any], case: Case) -> None:
    from metaloop.records.writing import write_json

    print(text_table(memory_rows(points, "peak")), text_table(seconds_rows(points)), ratios(points), sep="\n\n")
    head = {"benchmark": "memory", "quick": arguments.quick, "seed": 0, "repeats": arguments.repeats}
    head["limit_gb"] = arguments.limit
    measured = {"setting": case.__dict__, "malloc": ENVIRONMENT, "points": points, "ratios": ratios(points)}
    arguments.records.mkdir(exist_ok=True)
    write_json(arguments.records / "memory.json", {**head, **measured, **machine})
    (arguments.records / "memory.png").write_bytes(memory_plot(points))


if __name__ == "__main__":
    main()
