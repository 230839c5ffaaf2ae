"""Made-up run directories that follow the record schema."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_samples import function_samples, image_samples

from metaloop.metrics.interval import mean_interval
from metaloop.problems.classification import CALIBRATION_ERROR, CROSS_ENTROPY, F1, RECALL
from metaloop.problems.metric import ACCURACY, MEAN_SQUARED_ERROR, Metric
from metaloop.records.schema import SCHEMA

MakeRun = Callable[..., Path]


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


METRICS = {"classification": ACCURACY, "regression": MEAN_SQUARED_ERROR}


def _statistic(metric: Metric, mean: float, half_width: float | None) -> dict[str, Any]:
    return {"metric": metric.as_dict(), "mean": mean, "half_width": half_width}


def _test_block(scores: np.ndarray, problem: str, metric: Metric, steps: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    interval, classes = mean_interval(scores), problem == "classification"
    start = 0.2 if classes else 4.0
    curve = [
        {
            "step": s,
            "mean": interval.mean + (start - interval.mean) * 0.4**s * (s < steps),
            "half_width": 0.01 + 0.02 / (s + 1),
        }
        for s in range(steps + 1)
    ]
    others = {"loss": _statistic(CROSS_ENTROPY, 0.11, 0.02)}
    if classes:
        others |= {each.name: _statistic(each, interval.mean, interval.half_width) for each in (RECALL, F1)}
        others["calibration_error"] = _statistic(CALIBRATION_ERROR, 0.021, None)
    return {
        "problem": problem,
        "setting": "5-way 1-shot" if classes else "10-shot",
        "metric": metric.as_dict(),
        "split": "test",
        "mean": interval.mean,
        "half_width": interval.half_width,
        "level": 0.95,
        "episodes": len(scores),
        "ways": 5 if classes else 1,
        "shots": 1 if classes else 10,
        "queries": 3,
        "steps": steps,
        "norm_mode": "batch",
        "transductive": True,
        "seed": 0,
        "others": others,
        "curve": curve,
        "baseline": {"name": "nearest neighbour in pixels", "mean": 0.6412, "half_width": 0.012},
        **changes,
    }


def _training_metrics(problem: str, draw: np.random.Generator) -> tuple[list[str], list[list[Any]]]:
    header = ["step", "train/loss", "train/score", "validation/score", "validation/score_before", "validation/loss"]
    rows: list[list[Any]] = []
    for step in range(10, 1010, 10):
        loss = (1.6 * np.exp(-step / 250) + 0.12 + 0.06 * draw.random()) * (1 if problem == "classification" else 3)
        score = 1 - loss / 2 if problem == "classification" else loss
        validation = [score - 0.02, 0.2 + 0.02 * draw.random(), loss + 0.03] if step % 100 == 0 else ["", "", ""]
        rows.append([step, loss, score, *validation])
    return header, rows


def training_block(**changes: Any) -> dict[str, Any]:
    """A whole training block."""
    return {
        "steps": 1000, "wall_seconds": 95.2, "tasks_per_second": 480.0, "peak_memory_bytes": 700 * 2**20,
        "over_tasks": "loop", "best_step": 900, "best_validation": 0.96, **changes,
    }  # fmt: skip


def run_factory(root: Path) -> MakeRun:
    """A function that writes a run directory below ``root`` and returns it."""

    def make(
        folder: str, *, name: str = "", seed: int = 0, problem: str = "classification", metric: Metric | None = None,
        mean: float = 0.97,
        episodes: int = 60, algorithm: str = "maml", samples: bool = True,
        test: Mapping[str, Any] | None = None, scores: np.ndarray | None = None, **record: Any,
    ) -> Path:  # fmt: skip
        directory = root / folder
        directory.mkdir(parents=True)
        draw = np.random.default_rng([seed, len(folder)])
        hard = np.random.default_rng(7).normal(0, 0.02, episodes)  # the episodes' difficulty, the same for every run
        scores = mean + hard + draw.normal(0, 0.01, episodes) if scores is None else scores
        whole = {
            "schema": SCHEMA,
            "name": name or folder,
            "status": "finished",
            "created": "2026-01-02T03:04:05+00:00",
            "seed": seed,
            "command": ["metaloop", "train", f"algorithm={algorithm}", f"seed={seed}"],
            "overrides": [f"algorithm={algorithm}", f"seed={seed}"],
            "choices": {"algorithm": algorithm, "model": "conv4", "dataset": "glyphs", "episode": "5w1s"},
            "config": {"seed": seed, "algorithm": {"rule": {"rate": 0.4}}, "dataset": {"rotations": "none"}},
            "git": {"commit": "0123456789abcdef0123", "dirty": False},
            "fingerprint": "f00d",
            "versions": {"torch": "2.13.0", "metaloop": "0.1.0"},
            "hardware": {"machine": "x86_64", "cpu": "Some CPU", "cores": 2, "gpu": None, "ranks": 1},
            "training": training_block(tasks_per_second=480.0 + seed),
            "test": _test_block(scores, problem, metric or METRICS[problem], 5, test or {}),
            "paper": None,
            **record,
        }  # fmt: skip
        (directory / "record.json").write_text(json.dumps(whole))
        columns = ["index", "score", "loss"]
        write_table(directory / "episodes.csv", columns, [[i, repr(float(s)), 0.1] for i, s in enumerate(scores)])
        write_table(directory / "metrics.csv", *_training_metrics(problem, draw))
        if samples:
            np.savez(directory / "samples.npz", **(image_samples() if problem == "classification" else function_samples()))
        return directory

    return make


def paper_block() -> dict[str, Any]:
    """A whole paper block."""
    return {
        "citation": "Finn et al. 2017",
        "table": "Table 1, 5-way 1-shot",
        "published": {"mean": 0.987, "half_width": 0.004},
        "mark": "S",
        "deviations": ["Adam's step size is 0.001, the paper does not say"],
        "tolerance": 0.01,
    }
