"""Compare records of whole tables, paired over tables, and draw what a prediction of one table rests on.

    python benchmarks/tables.py                # fills the tables of docs/tables.md from docs/records/pfn_tables
    python benchmarks/tables.py --picture      # also draws docs/images/tables.png, from the shipped model
    python benchmarks/tables.py --keep outputs/pfn_tables/DATE pfn_tables/pfn    # keeps a run's or an evaluation's record

An episode is a split of table ``index % tables``. A table's score is its mean over its splits; intervals are over tables.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness.tables import markdown_table, with_tables

from metaloop.metrics.interval import mean_interval

ROOT = Path(__file__).resolve().parents[1]
RECORDS, PAGE, PICTURE = ROOT / "docs" / "records", ROOT / "docs" / "tables.md", ROOT / "docs" / "images" / "tables.png"
NAMES = {
    "pfn": "prior-fitted transformer",
    "one_member": "prior-fitted transformer, 1 member",
    "without_evidence": "without evidence, 1 member",
    "random_forest": "random forest",
    "logistic": "logistic regression",
    "nearest_neighbours": "5 nearest neighbours",
    "forest_regressor": "random forest",
    "ridge": "ridge regression",
}
_SHOWN = (("roc_auc", 1, 4), ("calibration_error", 100, 2), ("cross_entropy", 1, 3))  # of a result of tables_validation


@dataclass(frozen=True)
class Result:
    """One learner's scores.

    Attributes:
        tables: names of the tables.
        scores: (tables,) mean score of each table's splits.
        splits: number of splits of each table.
        others: further statistics of the record by name.
        sign: 1 if a higher score is better, else -1.
    """

    tables: tuple[str, ...]
    scores: np.ndarray
    splits: int
    others: Mapping[str, float]
    sign: int


def read(folder: Path) -> Result:
    """Read ``record.json`` and ``episodes.csv`` of a folder."""
    record = json.loads((folder / "record.json").read_text())
    tables = tuple(record["config"]["dataset"]["tables"])
    with (folder / "episodes.csv").open(newline="") as file:
        rows = [(int(row["index"]), float(row["score"])) for row in csv.DictReader(file)]
    scores = np.array([np.mean([score for index, score in rows if index % len(tables) == t]) for t in range(len(tables))])
    others = {name: each["mean"] for name, each in record["test"]["others"].items()}
    sign = 1 if record["test"]["metric"]["higher_is_better"] else -1
    return Result(tables, scores, len(rows) // len(tables), others, sign)


def summary(results: Mapping[str, Result], first: str, statistics: Mapping[str, tuple[str, float, int]], digits: int) -> str:
    """A row for each learner: its mean score, the paired difference of ``first`` to it, and further statistics."""
    rows = [["learner", "mean over tables", "transformer − it, 95 % interval over tables", "tables ahead", *statistics]]
    for name, result in results.items():
        difference = results[first].scores - result.scores
        interval = mean_interval(difference.tolist())
        paired = [
            f"{interval.mean:+.{digits}f} ± {interval.half_width:.{digits}f}",
            f"{(result.sign * difference > 0).sum()} of {len(difference)}",
        ]
        more = [f"{scale * result.others[key]:.{places}f}" for key, scale, places in statistics.values()]
        rows.append([NAMES[name], f"{result.scores.mean():.{digits}f}", *(paired if name != first else ["", ""]), *more])
    return markdown_table(rows)


def each_table(results: Mapping[str, Result], digits: int) -> str:
    """A row for each table, a column for each learner."""
    tables = next(iter(results.values())).tables
    rows = [["table", *(NAMES[name] for name in results)]]
    for place, table in enumerate(tables):
        scores = [result.scores[place] for result in results.values()]
        shown = [f"{score:.{digits}f}" for score in scores]
        rows.append([table.removeprefix("adbench:"), *shown])
    return markdown_table(rows)


def filled(page: str) -> str:
    """The page with its tables made from the records."""

    def table(name: str) -> str:
        if name == "validation":
            return validation()
        folder = RECORDS / ("pfn_tables_regression" if "regression" in name else "pfn_tables")
        results = {each: read(folder / each) for each in NAMES if (folder / each).is_dir()}
        if "each" in name:
            return each_table(results, 3)
        if "regression" in name:
            return summary(results, next(iter(results)), {}, 3)
        statistics = {"calibration error, %": ("calibration_error", 100, 2), "cross-entropy": ("loss", 1, 3)}
        return summary(results, next(iter(results)), statistics, 4)

    return with_tables(page, table)


def validation() -> str:
    """A row for each learner of :mod:`tables_validation`: areas under ROC curves, calibration errors and cross-entropies."""
    record = json.loads((RECORDS / "pfn_tables" / "validation.json").read_text())
    kinds = [kind for kind in next(iter(record.values())) if kind != "cpu_seconds"]
    rows = [
        ["learner", *(f"{kind}: {what}" for kind in kinds for what in ("ROC AUC", "calibration error, %", "cross-entropy"))]
    ]
    for name, result in record.items():
        cells = [(result[kind][key], scale, places) for kind in kinds for key, scale, places in _SHOWN]
        rows.append([name, *(f"{scale * value:.{places}f}" for value, scale, places in cells)])
    return markdown_table(rows)


def keep(source: Path, target: Path) -> None:
    """Copy the record and the tables of a run or evaluation, without the folders of the machine."""
    record = json.loads((source / "record.json").read_text())
    record["config"]["dataset"]["data_dir"] = "data/tabular"
    record["config"]["start_from"] = None
    machine = ("hydra.", "start_from=", "run=", "dataset.data_dir=")
    for key in ("command", "overrides"):
        record[key] = [word for word in record[key] if not word.startswith(machine)]
    target.mkdir(parents=True, exist_ok=True)
    (target / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    for name in ("episodes.csv", "metrics.csv"):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def draw(path: Path) -> None:
    """Draw the importance of each feature of a table and reliability curves, both on rows that were not shown."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import train_test_split

    from metaloop import MetaloopClassifier

    data = load_breast_cancer()
    x, y, names = data.data[:, :10], data.target, [name.removeprefix("mean ") for name in data.feature_names[:10]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    learners = {"transformer": MetaloopClassifier(), "random forest": RandomForestClassifier(random_state=0)}
    answers: dict[str, list[np.ndarray]] = {name: [] for name in learners}
    truth = []
    for split in range(5):
        shown, hidden, labels, expected = train_test_split(x, y, train_size=100, test_size=200, random_state=split, stratify=y)
        truth.append(expected)
        for name, learner in learners.items():
            answers[name].append(learner.fit(shown, labels).predict_proba(hidden)[:, 1])
    importance = permutation_importance(
        learners["transformer"], hidden, expected, scoring="roc_auc", n_repeats=5, random_state=0
    )
    order = importance.importances_mean.argsort()
    left.barh([names[place] for place in order], importance.importances_mean[order], xerr=importance.importances_std[order])
    left.set_xlabel("loss of ROC AUC when the feature is shuffled")
    right.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, parts in answers.items():
        p, true = np.concatenate(parts), np.concatenate(truth)
        edges = np.quantile(p, np.linspace(0, 1, 9))
        bins = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, 7)
        used = np.unique(bins)
        right.plot([p[bins == b].mean() for b in used], [true[bins == b].mean() for b in used], marker="o", label=name)
    right.set_xlabel("predicted probability of benign")
    right.set_ylabel("share that is benign")
    right.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Fill the page, and draw on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", action="store_true")
    parser.add_argument("--keep", nargs=2, metavar=("RUN", "NAME"))
    options = parser.parse_args()
    if options.keep:
        keep(Path(options.keep[0]), RECORDS / options.keep[1])
    if options.picture:
        draw(PICTURE)
    PAGE.write_text(filled(PAGE.read_text()))


if __name__ == "__main__":
    main()
