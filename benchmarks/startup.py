"""Time until ``metaloop train`` ends its first outer step, with the default config and a warm disk.

    python benchmarks/startup.py

Runs it in five fresh processes, after one that fills the caches. Measures the time from the creation of the process, as the
run itself logs it, and the processor time until then. Also times commands that answer without a run. Writes
benchmarks/records/startup.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from metaloop.records.code import framework
from metaloop.records.environment import hardware, versions
from metaloop.records.writing import write_json

TIMES, BAR = 5, 4.0  # runs; seconds that the default may take to its first step
RECORD = Path(__file__).parent / "records" / "startup.json"
ANSWERS = ("--help", "list", "train --help", "train algorithm=mamll")

# The command, which prints its times and exits at the end of its first outer step.
FIRST_STEP = """
import json, os, resource, sys
from metaloop.cli.main import main as cli
from metaloop.training.starting.start_up import StartUp

measure = StartUp.on_train_batch_end

def leave(self, *arguments):
    measure(self, *arguments)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("TOOK", json.dumps([self.seconds, used.ru_utime + used.ru_stime]), flush=True)
    os._exit(0)

StartUp.on_train_batch_end = leave
sys.exit(cli(sys.argv[1:]))
"""


def first_step(folder: Path) -> tuple[float, float]:
    """Measure seconds and processor seconds (of all threads) from the start of a process to the end of its first outer step."""
    done = subprocess.run([sys.executable, "-c", FIRST_STEP, "train"], cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOOK ")]
    if not lines:
        raise SystemExit(f"the run did not reach its first step:\n{done.stderr}")
    seconds, processor = json.loads(lines[0].removeprefix("TOOK "))
    return seconds, processor


def answer(words: str, folder: Path) -> float:
    """Measure the seconds that a whole command takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "metaloop", *words.split()], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def main() -> None:
    """Measure, print the table, write the record."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first_step(folder)
        before = os.getloadavg()[0]
        measured = [first_step(folder) for _ in range(TIMES)]
        rows["first outer step"] = spread([wall for wall, _ in measured])
        rows["first outer step, processor time"] = spread([used for _, used in measured])
        rows |= {f"metaloop {words}": spread([answer(words, folder) for _ in range(TIMES)]) for words in ANSWERS}
    print(f"{'seconds to':<36} {'median':>7} {'range':>14}")
    for row, times in rows.items():
        print(f"{row:<36} {times['median']:>7.2f} {times['lowest']:>7.2f} {times['highest']:>6.2f}")
    about = {"hardware": hardware(1), "versions": versions(), "git": framework()}
    write_json(RECORD, {"times": TIMES, "bar_seconds": BAR, "load_before": before, "rows": rows, **about})


if __name__ == "__main__":
    main()
