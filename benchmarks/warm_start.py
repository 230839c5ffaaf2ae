"""How many trials a warm-started search saves: small neural networks on eleven tables, three of them held out.

A trial is the mean log-likelihood of held-out rows under a small network, on a fixed split of one table; five settings of its
training are searched. Searches use the study of ``metaloop sweep``: its proposals cold (TPE), and with ``search.warm_start``
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
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from metaloop.data.tables.table_reading import read_table
from metaloop.metrics.interval import mean_interval
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
NET = "algorithm.estimator"
SPACE = {
    f"{NET}.learning_rate_init": Parameter("float", 1e-5, 1e1, log=True),
    f"{NET}.momentum": Parameter("float", 0.0, 0.99),
    f"{NET}.alpha": Parameter("float", 1e-6, 1e1, log=True),
    f"{NET}.batch_size": Parameter("int", 4, 128, log=True),
    f"{NET}.hidden_layer_sizes": Parameter("int", 2, 64, log=True),
}
TRIALS, ROWS, EPOCHS, SEEDS = 20, 240, 10, 10
SOURCE_TRIALS = 60
TOLERANCE = 1e-3  # nats
LOWEST = 1e-3  # probability of a class


class Objective:
    """Mean log-likelihood in nats of held-out rows under a network with one hidden layer, trained for ten passes."""

    def __init__(self, name: str, data_dir: str) -> None:
        table = read_table(name, data_dir)
        rows = np.random.default_rng(0).permutation(len(table.y))[:ROWS]
        x, y = np.nan_to_num(table.x[rows]), table.y[rows]
        train, test = next(StratifiedShuffleSplit(1, test_size=0.4, random_state=0).split(x, y))
        scaler = StandardScaler().fit(x[train])
        self.train, self.test = (scaler.transform(x[train]), y[train]), (scaler.transform(x[test]), y[test])

    def __call__(self, params: dict[str, Any]) -> float:
        """The score of a setting; that of probabilities of 0.001 for training that diverges."""
        values = {key.removeprefix(f"{NET}."): params[key] for key in SPACE}
        net = MLPClassifier(solver="sgd", max_iter=EPOCHS, random_state=0, **values)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                net.fit(*self.train)
            except ValueError:  # weights that are not finite
                return float(np.log(LOWEST))
            probabilities = net.predict_proba(self.test[0])
        own = probabilities[np.arange(len(self.test[1])), np.searchsorted(net.classes_, self.test[1])]
        return float(np.log(np.clip(np.nan_to_num(own), LOWEST, 1.0)).mean())


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
        "sources": SOURCES, "held_out": HELD_OUT, "trials": TRIALS, "seeds": options.seeds, "tolerance": TOLERANCE,
        "cpu_seconds": time.process_time() - start, "summary": summary, "rows": rows,
    }  # fmt: skip
    write_atomically(options.output, json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
