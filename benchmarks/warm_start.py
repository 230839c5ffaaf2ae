"""How many trials a warm-started search saves: boosted trees on eleven tables, three of them held out.

A trial is the mean log-likelihood of held-out rows under boosted trees, on fixed splits of one table; five of their settings
are searched. Searches use the study of ``metaloop sweep``: its proposals cold (TPE), and with ``search.warm_start``
from finished sweeps on eight other tables. For each held-out table and seed, ``warm`` is the number of trials until the warm
search reaches the best score of a whole cold search, and ``cold`` that until the cold search itself does; a search that never
does counts all its trials.

    python benchmarks/warm_start.py --data-dir DIR     writes benchmarks/records/warm_start.json
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedShuffleSplit

from metaloop.data.tables.table_reading import read_table
from metaloop.metrics.interval import mean_interval
from metaloop.records.environment import hardware, versions
from metaloop.sweeps.search.finished_sweeps import finished_sweep
from metaloop.sweeps.search.search import Parameter, Search
from metaloop.sweeps.search.study import Study
from metaloop.sweeps.search.warm_start import WarmStart
from metaloop.system.files import write_atomically

SOURCES = (
    "wine", "digits", "adbench:Ionosphere", "adbench:WPBC", "adbench:vertebral", "adbench:Cardiotocography", "adbench:Stamps",
    "adbench:glass",
)  # fmt: skip
HELD_OUT = ("breast_cancer", "adbench:Pima", "adbench:yeast")
TREES = "algorithm.estimator"
SPACE = {
    f"{TREES}.learning_rate": Parameter("float", 1e-4, 1.0, log=True),
    f"{TREES}.max_iter": Parameter("int", 4, 100, log=True),
    f"{TREES}.max_leaf_nodes": Parameter("int", 2, 32, log=True),
    f"{TREES}.min_samples_leaf": Parameter("int", 2, 50, log=True),
    f"{TREES}.l2_regularization": Parameter("float", 1e-4, 1e2, log=True),
}
TRIALS, SOURCE_TRIALS, SEEDS = 16, 40, 10
ROWS, SPLITS = 240, 2
TOLERANCE = 1e-3  # nats
LOWEST = 1e-6  # probability of a class


class Objective:
    """Mean log-likelihood in nats of held-out rows under boosted trees, on fixed splits of a table."""

    def __init__(self, name: str, data_dir: str) -> None:
        table = read_table(name, data_dir)
        rows = np.random.default_rng(0).permutation(len(table.y))[:ROWS]
        self.x, self.y = table.x[rows], table.y[rows]
        self.splits = list(StratifiedShuffleSplit(SPLITS, test_size=0.4, random_state=0).split(self.x, self.y))

    def __call__(self, params: dict[str, Any]) -> float:
        """The score of a setting."""
        values = {key.removeprefix(f"{TREES}."): params[key] for key in SPACE}
        scores = []
        for train, test in self.splits:
            made = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **values)
            probabilities = made.fit(self.x[train], self.y[train]).predict_proba(self.x[test])
            own = probabilities[np.arange(len(test)), np.searchsorted(made.classes_, self.y[test])]
            scores.append(np.log(np.clip(own, LOWEST, 1.0)).mean())
        return float(np.mean(scores))


def searched(objective: Objective, seed: int, trials: int, warm: WarmStart | None) -> tuple[list[dict[str, Any]], list[float]]:
    """The settings and scores of a search's trials, in order."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder), Search(SPACE, trials=trials, seed=seed), {}, "maximize", (1, 1))
        study.warm = warm
        params, scores = [], []
        with study.locked():
            for _ in range(trials):
                trial = study.ask()
                study.assign(trial, str(trial.number))
                params.append(dict(trial.params))
                scores.append(objective(params[-1]))
                study.end(trial, [scores[-1]])
    return params, scores


def first_reaching(scores: list[float], goal: float) -> int:
    """Number of trials until the goal is reached; all of them if it is not."""
    return next((number for number, score in enumerate(scores, 1) if score >= goal - TOLERANCE), len(scores))


def main() -> int:
    """Measure, write the record, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder of the tables")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "records" / "warm_start.json")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    start = time.process_time()
    finished = [finished_sweep(*searched(Objective(name, options.data_dir), 1000, SOURCE_TRIALS, None)) for name in SOURCES]
    warm_start = WarmStart(finished, SPACE, 0)  # its surrogate is trained once
    rows = []
    for name in HELD_OUT:
        objective = Objective(name, options.data_dir)
        for seed in range(options.seeds):
            _, cold = searched(objective, seed, TRIALS, None)
            _, warm = searched(objective, seed, TRIALS, warm_start)
            goal = max(cold)
            counts = {"cold": first_reaching(cold, goal), "warm": first_reaching(warm, goal)}
            rows.append(
                {
                    "table": name,
                    "seed": seed,
                    "goal": goal,
                    "best_warm": max(warm),
                    **counts,
                    "cold_scores": cold,
                    "warm_scores": warm,
                }
            )
            print(name, seed, f"{goal:.4f}", f"{max(warm):.4f}", counts, flush=True)
    summary = {}
    for name in HELD_OUT:
        mine = [row for row in rows if row["table"] == name]
        cold, warm = (np.array([row[key] for row in mine], dtype=float) for key in ("cold", "warm"))
        difference = mean_interval(warm - 0.5 * TRIALS)
        summary[name] = {
            "cold_trials": cold.mean(), "warm_trials": warm.mean(), "share_of_cold_search": warm.mean() / TRIALS,
            "share_of_cold_trials": warm.mean() / cold.mean(),
            "warm_minus_half_of_cold_search": difference.mean, "half_width": difference.half_width,
            "reached": sum(row["best_warm"] >= row["goal"] - TOLERANCE for row in mine),
        }  # fmt: skip
        print(name, summary[name])
    record = {
        "versions": versions(), "machine": asdict(hardware(1)),
        "sources": SOURCES, "held_out": HELD_OUT, "trials": TRIALS, "seeds": options.seeds, "tolerance": TOLERANCE,
        "cpu_seconds": time.process_time() - start, "summary": summary, "rows": rows,
    }  # fmt: skip
    write_atomically(options.output, json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
