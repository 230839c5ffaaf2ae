"""Choose between prior-fitted transformers on real tables that docs/tables.md does not test on.

    python benchmarks/tables_validation.py --baselines shipped=pfn:4 new=outputs/pfn_tables/DATE    # NAME=MODEL[:MEMBERS]
    python benchmarks/tables.py                                                    # shows the results on the page

Tables are ADBench's with more than ten columns and at least ten rows of the rarer class in 1,000, and scikit-learn's wine,
digits and breast_cancer: two splits with ten random columns of each, and two with three to seven. Results are kept in
docs/records/pfn_tables/validation.json, one entry a NAME.
"""

import argparse
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaloop import MetaloopClassifier
from metaloop.data.tables.table_reading import ADBENCH, ADBENCH_FOLDER, DataTable, read_table
from metaloop.learners.context.kernel_evidence import KernelShares
from metaloop.metrics.classification import calibration_error

RECORD = Path(__file__).resolve().parents[1] / "docs" / "records" / "pfn_tables" / "validation.json"
ROWS, COLUMNS, RAREST = 500, 10, 0.01
WIDTHS = {"ten columns": (10, 11), "three to seven columns": (3, 8)}


@dataclass(frozen=True)
class Split:
    """One split of a table: rows (n, columns) and classes (n,) that are shown, and those that are asked for."""

    table: str
    kind: str
    x: np.ndarray
    y: np.ndarray
    new_x: np.ndarray
    new_y: np.ndarray


class EvidenceAlone:
    """The mean of the kernel regressions that the transformer sees as evidence, without the transformer."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "EvidenceAlone":
        """Keep the table, standardized."""
        self.classes_, self.y = np.unique(y, return_inverse=True)
        self.scaler = StandardScaler().fit(x)
        self.x = self.scaler.transform(x)
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Shares of the classes, (rows, classes)."""
        values = torch.tensor(np.concatenate([self.x, self.scaler.transform(x)]).clip(-10, 10), dtype=torch.float32)
        labels = torch.nn.functional.one_hot(torch.tensor(self.y)).float()
        evidence = KernelShares()
        found = evidence(values, torch.ones_like(values), labels, torch.ones(len(labels), dtype=torch.bool))[len(labels) :]
        logs = 2 * found[:, : labels.shape[1] * evidence.answers].unflatten(1, (-1, evidence.answers))
        shares = logs[..., : evidence.answers // 2].exp().mean(-1)
        return (shares / shares.sum(1, keepdim=True)).numpy()


BASELINES: dict[str, Callable[[], Any]] = {
    "random forest": lambda: RandomForestClassifier(random_state=0),
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "5 nearest neighbours": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "kernel regressions alone": EvidenceAlone,
}


def tables() -> Iterator[DataTable]:
    """The tables of the validation."""
    folder = str(Path(os.environ.get("METALOOP_DATA", "data")) / "tabular")
    names = sorted(path.stem.split("_", 1)[1] for path in (Path(folder) / ADBENCH_FOLDER).glob("*.npz"))
    for name in [*(ADBENCH + each for each in names), "wine", "digits", "breast_cancer"]:
        table = read_table(name, folder)
        if table.x.shape[1] > COLUMNS and np.bincount(table.y).min() >= RAREST * len(table.y):
            yield table


@lru_cache
def splits() -> tuple[Split, ...]:
    """Every split of every table, in the same order each time."""
    found = []
    for table in tables():
        random = np.random.default_rng(zlib.crc32(table.name.encode()))
        vary = np.flatnonzero(table.x.std(0) > 0)
        for kind, (least, beyond) in WIDTHS.items():
            for _ in range(2):
                chosen = random.permutation(vary)[: random.integers(least, beyond)]
                rows = min(ROWS, len(table.y) // 2)
                parts = train_test_split(
                    table.x[:, chosen], table.y, train_size=rows, test_size=rows, stratify=table.y,
                    random_state=int(random.integers(2**31)),
                )  # fmt: skip
                found.append(Split(table.name, kind, parts[0], parts[2], parts[1], parts[3]))
    return tuple(found)


def measured(make: Callable[[], Any]) -> dict[str, Any]:
    """Mean area under the ROC curve, cross-entropy and calibration error for each kind of split, tables' areas, and time."""
    found: dict[str, list[tuple[str, float, float, np.ndarray, np.ndarray]]] = {kind: [] for kind in WIDTHS}
    seconds = 0.0
    for split in splits():
        start = time.process_time()
        p = make().fit(split.x, split.y).predict_proba(split.new_x)
        seconds += time.process_time() - start
        classes = np.unique(split.y)
        labels = np.searchsorted(classes, split.new_y)
        kwargs = {"multi_class": "ovr", "labels": range(len(classes))} if len(classes) > 2 else {}
        area = roc_auc_score(labels, p if len(classes) > 2 else p[:, 1], **kwargs)
        found[split.kind].append((split.table, area, log_loss(labels, p, labels=range(len(classes))), p, labels))
    result: dict[str, Any] = {"cpu_seconds": round(seconds, 1)}
    for kind, rows in found.items():
        of_table: dict[str, list[float]] = {}
        for name, area, *_ in rows:
            of_table.setdefault(name, []).append(area)
        most = max(row[3].shape[1] for row in rows)
        pooled = np.concatenate([np.pad(row[3], ((0, 0), (0, most - row[3].shape[1]))) for row in rows])
        truth = np.concatenate([row[4] for row in rows])
        result[kind] = {
            "roc_auc": round(float(np.mean([row[1] for row in rows])), 5),
            "cross_entropy": round(float(np.mean([row[2] for row in rows])), 5),
            "calibration_error": round(calibration_error(torch.tensor(pooled), torch.tensor(truth)), 5),
            "tables": {name: round(float(np.mean(areas)), 5) for name, areas in of_table.items()},
        }
    return result


def main() -> None:
    """Measure the models named on the command line, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="NAME=MODEL[:MEMBERS]")
    parser.add_argument("--baselines", action="store_true")
    options = parser.parse_args()
    makers = dict(BASELINES) if options.baselines else {}
    for word in options.models:
        name, model = word.split("=", 1)
        folder, _, members = model.partition(":")
        makers[name] = lambda folder=folder, members=members: MetaloopClassifier(folder, int(members) if members else None)
    for name, make in makers.items():
        result = measured(make)
        record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
        RECORD.write_text(json.dumps({**record, name: result}, indent=1) + "\n")
        print(name, {kind: {key: value for key, value in result[kind].items() if key != "tables"} for kind in WIDTHS})


if __name__ == "__main__":
    main()
