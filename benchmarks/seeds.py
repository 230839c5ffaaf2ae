"""Ten seeds of a small net against one: computed together (docs/sweeps.md), and each by itself.

    OMP_NUM_THREADS=1 python benchmarks/seeds.py

Runs whole commands, from the start of the process to the reports: one run, and sweeps over the seeds. Compiled code is in
torch's cache beforehand, from a short sweep of each way. Processor seconds are those of all processes of a command. Writes
benchmarks/records/seeds.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.machine import about
from harness.tables import seed_rows, text_table

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "records"
EXPERIMENT = "finn2017_maml_sinusoid_5shot"
SHORT = ("trainer.max_steps=600", "validation.every=300", "log_every=100", "stretches=true", "algorithm/over_tasks=vmap")
ONE = "one run"
# Words of a sweep over the seeds; the sweep has one thread a run.
SWEEPS = {
    "in packs, on one core": ("--jobs", "1", "--threads", "1"),
    "in packs, on all cores": ("--threads", "1"),
    "each by itself, on all cores": ("--threads", "1", "sweep.pack=false"),
}
BAR = 2.5  # times one run


def command(way: str, seeds: int, folder: Path, more: Sequence[str] = ()) -> list[str]:
    """Command line of one run, or of a sweep."""
    start = [sys.executable, "-m", "metaloop", "train"]
    if way == ONE:
        return [*start, f"experiment={EXPERIMENT}", "seed=0", f"hydra.run.dir={folder}", *more]
    sweep = ["-m", f"experiment={EXPERIMENT}", f"seed=range({seeds})", f"hydra.sweep.dir={folder}"]
    return [*start, *sweep, *SWEEPS[way], *more]


def timed(words: Sequence[str], folder: Path, runs: int) -> dict[str, Any]:
    """Run a command; return its seconds, processor seconds, the runs' scores by seed, and what it says about packs.

    Raises:
        RuntimeError: the command failed, or a run is missing.
    """
    ended = subprocess.run(
        [sys.executable, str(HERE / "harness" / "timed.py"), *words], capture_output=True, text=True, check=False
    )
    records = [json.loads(path.read_text()) for path in folder.rglob("record.json")]
    if ended.returncode or len(records) != runs:
        raise RuntimeError(f"{' '.join(words)}\nfinished {len(records)} of {runs} runs\n{ended.stderr[-3000:]}")
    says = [line for line in ended.stderr.splitlines() if line.startswith(("packed", "not packed"))]
    scores = {record["seed"]: record["test"]["mean"] for record in records}
    load = os.getloadavg()[0]
    training = fmean(record["training"]["cpu_seconds"] for record in records)
    return {**json.loads(ended.stdout), "scores": scores, "packs": says, "load_after": load, "training": training}


def main(words: list[str] | None = None) -> None:
    """Measure, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ways", nargs="+", choices=list(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--quick", action="store_true", help="two seeds and few outer steps; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    load_before, seeds = os.getloadavg(), 2 if arguments.quick else arguments.seeds
    short = [*SHORT, "trainer.max_steps=30", "validation.every=15", "log_every=10"] if arguments.quick else list(SHORT)
    measured = {}
    with tempfile.TemporaryDirectory() as name:
        for way in (ONE, *arguments.ways):
            runs = 1 if way == ONE else seeds
            if not arguments.quick:
                warm = Path(name) / f"warm_{len(measured)}"
                timed(command(way, seeds, warm, short), warm, runs)
            folder = Path(name) / str(len(measured))
            measured[way] = timed(command(way, seeds, folder, short if arguments.quick else ()), folder, runs)
            print(way, json.dumps(measured[way]), flush=True)
    print(text_table(seed_rows(measured)))
    from metaloop.records.writing import write_json

    arguments.records.mkdir(exist_ok=True)
    head = {"benchmark": "seeds", "quick": arguments.quick, "seeds": seeds, "experiment": EXPERIMENT, "bar": BAR}
    write_json(arguments.records / "seeds.json", {**head, "ways": measured, **about(load_before)})


if __name__ == "__main__":
    main()
