"""Make the scenario that ``metaloop recommend`` knows: learners of scikit-learn on real and synthetic tables.

Each learner is scored by its mean area under the ROC curve on two stratified splits of at most 500 rows of a table. Real
tables are scikit-learn's and ADBench's; synthetic ones are from ``dataset=table_prior``. The folds are ten random ones.

    python benchmarks/learners_on_tables.py --data-dir DIR     writes src/metaloop/data/scenarios/tables/
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

from metaloop.data.philox import Stream
from metaloop.data.scenarios.arff import write_arff
from metaloop.data.scenarios.learners import LEARNERS, make_learner
from metaloop.data.scenarios.scenario import DESCRIPTION, FEATURES, FOLDS, RUNS
from metaloop.data.scenarios.selection import SHIPPED
from metaloop.data.tables.meta_features import DESCRIPTIONS, meta_features
from metaloop.data.tables.prior.table_prior import SyntheticTables
from metaloop.data.tables.table_reading import ADBENCH, ADBENCH_FOLDER, read_table
from metaloop.problems.table_classification import TableClassification
from metaloop.system.files import write_atomically
from metaloop.types import EpisodeSpec

ROWS, SPLITS, SYNTHETIC, LEAST = 500, 2, 50, 10  # LEAST: rows of each class


def real_tables(data_dir: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Names, features and classes of the real tables, at most 500 rows and 100 features."""
    names = ["iris", "wine", "breast_cancer", "digits"]
    names += [f"{ADBENCH}{path.stem.split('_', 1)[1]}" for path in sorted((data_dir / ADBENCH_FOLDER).glob("*.npz"))]
    for name in names:
        table = read_table(name, str(data_dir))
        if table.x.shape[1] <= 100:
            yield name.replace(":", "_"), *_thinned(table.x, table.y)


def synthetic_tables(count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Tables of random causal models, with two to ten classes."""
    tables = SyntheticTables(TableClassification(), columns=20, nodes=8, missing=0.2)
    spec = EpisodeSpec(ways=10, shots=40, queries=1)
    for number in range(count):
        support = tables.draw(Stream(0, "scenario"), torch.tensor([number]), spec).support
        assert isinstance(support.x, torch.Tensor)
        values, known = support.x[0].double().unbind(1)
        x = values.masked_fill(known == 0, torch.nan).numpy()
        yield f"synthetic_{number}", *_thinned(x[:, ~np.isnan(x).all(0)], support.y[0].numpy())


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 500 random rows, of which each class has ten or more."""
    random = np.random.default_rng(0)
    kept = []
    for label in np.unique(y):
        members = random.permutation(np.flatnonzero(y == label))
        if len(members) >= LEAST:
            kept.append(members[: max(LEAST, round(len(members) * min(1.0, ROWS / len(y))))])
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows]


def performance(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """Mean area under the ROC curve of a learner, of each class against all others."""
    scores = []
    for train, test in StratifiedShuffleSplit(SPLITS, test_size=0.3, random_state=0).split(x, y):
        made: Any = make_learner(name).fit(x[train], y[train])
        probabilities = made.predict_proba(x[test])
        scores.append(np.mean([roc_auc_score(y[test] == c, probabilities[:, k]) for k, c in enumerate(made.classes_)]))
    return float(np.mean(scores))


def main() -> int:
    """Measure and write the scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--output", type=Path, default=SHIPPED)
    parser.add_argument("--synthetic", type=int, default=SYNTHETIC)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    runs, features = [], []
    for tables in (real_tables(options.data_dir), synthetic_tables(options.synthetic)):
        for name, x, y in tables:
            if len(np.unique(y)) < 2:
                continue
            start = time.process_time()
            features.append((name, 1, *meta_features(x, y).values()))
            runs += [(name, 1, each, round(performance(each, x, y), 5), "ok") for each in LEARNERS]
            print(f"{name}: {time.process_time() - start:.1f} s", flush=True)
    order = np.random.default_rng(0).permutation(len(features))
    folds = [(row[0], 1, int(place) % 10 + 1) for row, place in zip(features, order, strict=True)]
    description = {
        "scenario_id": "METALOOP-TABLES", "performance_measures": ["roc_auc"], "maximize": [True],
        "performance_type": ["solution_quality"],
        "metainfo_algorithms": {name: {"configuration": text, "deterministic": True} for name, text in LEARNERS.items()},
    }  # fmt: skip
    keys = [("instance_id", "STRING"), ("repetition", "NUMERIC")]
    texts = {
        DESCRIPTION: yaml.safe_dump(description, sort_keys=False),
        RUNS: write_arff("RUNS", [*keys, ("algorithm", "STRING"), ("roc_auc", "NUMERIC"), ("runstatus", "{ok, crash}")], runs),
        FEATURES: write_arff(
            "FEATURES",
            [*keys, *((name, "NUMERIC") for name in DESCRIPTIONS)],
            [(row[0], row[1], *(f"{value:.6g}" for value in row[2:])) for row in features],
        ),
        FOLDS: write_arff("CV", [*keys, ("fold", "NUMERIC")], folds),
    }
    for name, text in texts.items():
        write_atomically(options.output / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
