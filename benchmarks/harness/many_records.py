"""Hundreds of run directories made from one real run, like those of a large sweep, for the benchmark of reports."""

import csv
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from metaloop.metrics.interval import mean_interval

ALGORITHMS = ("maml", "fomaml", "anil", "boil", "metasgd")
STEPS = (1, 2, 3, 5, 10)
RATES = (0.01, 0.03, 0.1, 0.4)
ROWS = 200  # of metrics.csv, as many as a training of 10,000 outer steps writes


def spread_out(run: Path, folder: Path, count: int) -> None:
    """Copy a run ``count`` times with other settings, seeds and scores; the records are otherwise unchanged.

    Args:
        run: a finished run.
        folder: folder of the copies.
        count: number of copies; there are as many seeds as needed.
    """
    record = json.loads((run / "record.json").read_text())
    with (run / "episodes.csv").open(newline="") as file:
        episodes = list(csv.DictReader(file))
    for number, (seed, algorithm, steps, rate) in enumerate(itertools.islice(_settings(), count)):
        directory = folder / f"{number:03}"
        directory.mkdir(parents=True)
        draw = np.random.default_rng(number)
        gain = 0.02 * math.log(steps) - 0.02 * abs(math.log10(rate / 0.1)) + draw.normal(0, 0.004)
        scores = np.array([float(row["score"]) for row in episodes]) + gain + draw.normal(0, 0.03, len(episodes))
        content = _record(record, {"seed": seed, "algorithm": algorithm, "steps": steps, "rate": rate}, scores, draw)
        (directory / "record.json").write_text(json.dumps(content, indent=1))
        _write(directory / "episodes.csv", [{**row, "score": repr(float(s))} for row, s in zip(episodes, scores, strict=True)])
        _write(directory / "metrics.csv", _metrics(float(scores.mean()), draw))
        shutil.copy(run / "samples.npz", directory / "samples.npz")


def _settings() -> Iterator[tuple[int, str, int, float]]:
    for seed in itertools.count():
        for algorithm, steps, rate in itertools.product(ALGORITHMS, STEPS, RATES):
            yield seed, algorithm, steps, rate


def _record(record: dict[str, Any], setting: dict[str, Any], scores: np.ndarray, draw: np.random.Generator) -> dict[str, Any]:
    result = json.loads(json.dumps(record))
    interval = mean_interval(scores)
    algorithm, seed = setting["algorithm"], setting["seed"]
    keys = {"algorithm": algorithm, "algorithm.steps": setting["steps"], "algorithm.rule.lr": setting["rate"], "seed": seed}
    result["overrides"] = [f"{key}={value}" for key, value in keys.items()]
    result["choices"]["algorithm"], result["seed"], result["name"] = algorithm, seed, f"{algorithm}_glyphs"
    result["config"] |= {"seed": seed, "name": result["name"]}
    result["config"]["algorithm"]["steps"], result["config"]["algorithm"]["rule"]["lr"] = setting["steps"], setting["rate"]
    result["test"] |= {"mean": interval.mean, "half_width": interval.half_width}
    result["training"]["wall_seconds"] = 60 * setting["steps"] ** 0.8 * draw.uniform(0.9, 1.1)
    return result


def _metrics(end: float, draw: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for number in range(1, ROWS + 1):
        loss = 1.6 * math.exp(-number / 50) + 0.1 + 0.05 * draw.random()
        row = {"step": 50 * number, "train/loss": loss, "train/score": end - 0.2 * loss}
        shown = number % 2 == 0
        keys = ("validation/score", "validation/score_before", "validation/loss", "validation/half_width")
        values = (end - 0.1 * loss, 0.2, loss, 0.01) if shown else ("",) * 4
        rows.append(row | dict(zip(keys, values, strict=True)))
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
