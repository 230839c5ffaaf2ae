"""One rank against two on the CPU: tasks per second of `metaloop train`, with one thread per rank and tasks run in a loop.

    python benchmarks/scaling.py

Rounds of one and of two ranks take turns. Rates are those that the run logs in metrics.csv, without the first row, which
includes the set-up. Writes benchmarks/records/scaling.json.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.driver import RECORDS, interval
from harness.machine import about
from harness.tables import scaling_rows, text_table

TRAINERS = {"1": "cpu", "2": "ddp_cpu"}


def overrides(ranks: str, steps: int, filters: int, folder: Path) -> list[str]:
    """Overrides of the run: case a's network on the glyphs, which need no download."""
    return [
        "algorithm=maml", "algorithm/over_tasks=loop", "model=conv4", f"model.filters={filters}", "model.downsample=pool",
        "dataset=glyphs", "episode=5w1s", "episode.train.queries=15", "outer.meta_batch=32", f"trainer={TRAINERS[ranks]}",
        f"trainer.max_steps={steps}", "log_every=2", f"validation.every={steps}", "validation.episodes=2",
        "evaluation.episodes=2", f"hydra.run.dir={folder}",
    ]  # fmt: skip


def run(ranks: str, steps: int, filters: int) -> dict[str, Any]:
    """Measure the tasks per second of one run, and its meta-test loss, which must not depend on the ranks."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "metaloop", "train", *overrides(ranks, steps, filters, folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=parent)
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{ended.stderr[-3000:]}")
        with (folder / "metrics.csv").open() as file:
            rows = [row["train/tasks_per_second"] for row in csv.DictReader(file)]
        record = json.loads((folder / "record.json").read_text())
    rates = [float(value) for value in rows if value]
    return {"rate": statistics.median(rates[1:] or rates), "loss": record["test"]["others"]["loss"]["mean"]}


def main(words: list[str] | None = None) -> None:
    """Measure, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="outer steps a run")
    parser.add_argument("--quick", action="store_true", help="one short round; its timings mean nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the record goes")
    arguments = parser.parse_args(words)
    load_before = os.getloadavg()
    rounds, steps, filters = (1, 4, 4) if arguments.quick else (arguments.rounds, arguments.steps, 64)
    runs: dict[str, list[dict[str, Any]]] = {ranks: [] for ranks in TRAINERS}
    for _ in range(rounds):
        for ranks, rows in runs.items():
            rows.append(run(ranks, steps, filters))
    measured = {ranks: {"rate": interval([each["rate"] for each in rows]), "rounds": rows} for ranks, rows in runs.items()}
    ratio = interval([two["rate"] / one["rate"] for one, two in zip(runs["1"], runs["2"], strict=True)])
    print(text_table(scaling_rows(measured)), f"two ranks against one: {ratio['median']:.2f}", sep="\n")
    from metaloop.records.writing import write_json

    arguments.records.mkdir(exist_ok=True)
    head = {"benchmark": "scaling", "quick": arguments.quick, "seed": 0, "steps": steps, "rounds": rounds, "filters": filters}
    write_json(arguments.records / "scaling.json", {**head, "ranks": measured, "ratio": ratio, **about(load_before)})


if __name__ == "__main__":
    main()
