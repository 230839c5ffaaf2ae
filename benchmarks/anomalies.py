"""Compare anomaly detectors on ten held-out data sets, paired by episode, and draw their alarm curves.

    python benchmarks/anomalies.py outputs/anomalies_transformer/DATE   # trains the others, evaluates all, keeps their records
    python benchmarks/anomalies.py                                      # fills docs/anomalies.md from the records, and draws

Records are kept in docs/records/anomalies/LEARNER_SETTING. An episode is of table ``index % tables``.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness.tables import markdown_table, with_tables
from tables import keep

from metaloop.metrics.interval import Interval, mean_interval

ROOT = Path(__file__).resolve().parents[1]
RECORDS, PAGE = ROOT / "docs" / "records" / "anomalies", ROOT / "docs" / "anomalies.md"
PICTURE = ROOT / "docs" / "images" / "anomalies.png"
FIRST = "anomaly_transformer"
# What an evaluation changes, by the name of the setting.
SETTINGS = {
    "0": (),
    "5": ("dataset.labelled.test=5",),
    "10": ("dataset.labelled.test=10",),
    "contaminated": ("dataset.contamination.test=0.1",),
}
LABELS = ("0", "5", "10")
CONTAMINATED = (FIRST, "neighbour_distance", "local_outlier_factor", "principal_components")  # in the last setting
RATES = (1, 2, 5, 10, 20, 50)  # columns recall_at_N of episodes.csv, in percent
NAMES = {
    FIRST: "prior-fitted transformer",
    "neighbour_distance": "5th nearest neighbour",
    "isolation_forest": "isolation forest",
    "boosted_trees": "boosted tree",
    "local_outlier_factor": "local outlier factor",
    "one_class_svm": "one-class SVM",
    "principal_components": "principal components",
    "background_prototypes": "prototypes with a background",
    "deep_sad": "Deep SAD, meta-learned",
}
RIVALS = ("neighbour_distance", "isolation_forest", "boosted_trees")  # whose best is the bar
LEARNED = {"background_prototypes": "mlp", "deep_sad": "sphere"}  # trained here, with their models
STEPS = 100  # of their training


@dataclass(frozen=True)
class Result:
    """One learner's scores with one number of labelled anomalies.

    Attributes:
        tables: names of the tables.
        columns: (episodes,) each, the columns of ``episodes.csv`` by name.
    """

    tables: tuple[str, ...]
    columns: Mapping[str, np.ndarray]

    def by_table(self, name: str = "score") -> np.ndarray:
        """Mean of a column over the episodes of each table, (tables,)."""
        count = len(self.tables)
        return np.array([self.columns[name][place::count].mean() for place in range(count)])


def read(folder: Path) -> Result:
    """Read the record and the episodes of a folder."""
    record = json.loads((folder / "record.json").read_text())
    with (folder / "episodes.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    names = ("score", "average_precision", *(f"recall_at_{rate}" for rate in RATES))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
    return Result(tuple(record["config"]["dataset"]["tables"]["test"]), columns)


def results(labels: str) -> dict[str, Result]:
    """The kept results of a setting, by learner."""
    kept = {name: RECORDS / f"{name}_{labels}" for name in NAMES}
    return {name: read(folder) for name, folder in kept.items() if folder.is_dir()}


def paired(first: Result, other: Result) -> tuple[Interval, Interval]:
    """Differences of AUROC: over episodes, and over tables."""
    over_episodes = mean_interval((first.columns["score"] - other.columns["score"]).tolist())
    return over_episodes, mean_interval((first.by_table() - other.by_table()).tolist())


def summary(labels: str) -> str:
    """A row for each learner: means over tables, and the paired difference of the transformer to it."""
    found = results(labels)
    if FIRST not in found:
        return "Not measured yet."
    heading = ["learner", "AUROC", "average precision", "recall at 1 % alarms, %", "transformer − it, over episodes"]
    rows = [[*heading, "over tables", "tables ahead"]]
    for name, result in found.items():
        recall = 100 * result.by_table("recall_at_1").mean()
        row = [NAMES[name], f"{result.by_table().mean():.4f}", f"{result.by_table('average_precision').mean():.4f}"]
        row.append(f"{recall:.2f}")
        if name != FIRST:
            intervals = [f"{each.mean:+.4f} ± {each.half_width:.4f}" for each in paired(found[FIRST], result)]
            ahead = int((found[FIRST].by_table() > result.by_table()).sum())
            rows.append([*row, *intervals, f"{ahead} of {len(result.tables)}"])
        else:
            rows.append([*row, "", "", ""])
    return markdown_table(rows)


def each_table(labels: str) -> str:
    """A row for each table, a column for each learner."""
    found = results(labels)
    if not found:
        return "Not measured yet."
    rows = [["table", *(NAMES[name] for name in found)]]
    for place, table in enumerate(next(iter(found.values())).tables):
        rows.append([table, *(f"{result.by_table()[place]:.3f}" for result in found.values())])
    return markdown_table(rows)


def verdict() -> str:
    """Whether the bars are met, in words."""
    lines = []
    for labels in LABELS:
        found = results(labels)
        rivals = ("neighbour_distance",) if labels == "0" else RIVALS
        if FIRST not in found or any(name not in found for name in rivals):
            lines.append(f"- {labels} labelled anomalies: not measured yet.")
            continue
        best = max(rivals, key=lambda name: found[name].by_table().mean())
        episodes, tables = paired(found[FIRST], found[best])
        low = episodes.mean - (episodes.half_width or 0.0)
        word = "held" if (episodes.mean >= 0 if labels == "0" else low > 0) else "missed"
        bar = "at least kNN's" if labels == "0" else "above the best of kNN, isolation forest and a boosted tree"
        lines.append(
            f"- {labels} labelled anomalies, bar {bar}: **{word}**. Against {NAMES[best]}: "
            f"{episodes.mean:+.4f} ± {episodes.half_width:.4f} over episodes, {tables.mean:+.4f} ± {tables.half_width:.4f} "
            f"over tables."
        )
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its tables made from the records; a table's name is its kind and its setting."""
    makers = {"summary": summary, "each": each_table}

    def table(name: str) -> str:
        kind, _, labels = name.partition("_")
        return verdict() if kind == "verdict" else makers[kind](labels)

    return with_tables(page, table)


def draw(path: Path) -> None:
    """Draw alarm curves: the share of anomalies found against the share of rows that raise an alarm, mean over tables."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    counts = [labels for labels in LABELS if results(labels)]
    size = (4.2 * len(counts), 3.9)
    figure, axes = plt.subplots(1, len(counts), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axis, labels in zip(axes[0], counts, strict=True):
        for name, result in results(labels).items():
            curve = [100 * result.by_table(f"recall_at_{rate}").mean() for rate in RATES]
            axis.plot(RATES, curve, marker="o", markersize=3, linewidth=2.4 if name == FIRST else 1.1, label=NAMES[name])
        axis.plot(RATES, RATES, color="grey", linewidth=0.8, linestyle=":", label="chance")
        axis.set_xscale("log")
        axis.set_xticks(RATES, [str(rate) for rate in RATES])
        axis.minorticks_off()
        axis.set_xlabel("rows that raise an alarm, %")
        axis.set_title(f"{labels} labelled anomalies")
    axes[0, 0].set_ylabel("anomalies found, %")
    axes[0, -1].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def metaloop(*words: str) -> None:
    """Run a command of metaloop in this process."""
    from metaloop.cli.main import main as command

    print("metaloop", *words, flush=True)
    if command(list(words)):
        raise SystemExit(f"metaloop {' '.join(words)} has failed")


def evaluated(run: Path, name: str) -> None:
    """Evaluate a run in each setting, and keep the records."""
    from metaloop.evaluation.evaluate import evaluate, evaluation_of
    from metaloop.records.writing import write_record

    keep(run, RECORDS / f"{name}_0")
    for setting, change in list(SETTINGS.items())[1:]:
        if setting == "contaminated" and name not in CONTAMINATED:
            continue
        folder = evaluation_of(run, change)
        if folder is None:
            print(name, setting, flush=True)
            record, folder = evaluate(run, change)
            write_record(folder, record)
        keep(folder, RECORDS / f"{name}_{setting}")


def run_all(first: Path, folder: Path, names: Sequence[str]) -> None:
    """Train the other learners, evaluate all of them, and keep their records.

    Args:
        first: the finished run of ``experiment=anomalies_transformer``.
        folder: where the other runs are written.
        names: the learners to measure.
    """
    if FIRST in names:
        evaluated(first, FIRST)
    episodes = json.loads((first / "record.json").read_text())["config"]["evaluation"]["episodes"]
    for name in (name for name in names if name != FIRST):
        words = [f"name={name}", f"evaluation.episodes={episodes}", f"hydra.run.dir={folder / name}"]
        if name in LEARNED:
            words += [f"algorithm={name}", f"model={LEARNED[name]}", "algorithm/over_tasks=vmap"]
            words += [f"trainer.max_steps={STEPS}", f"validation.every={STEPS}"]
        else:
            words += ["algorithm=estimator", f"algorithm/estimator={name}", "dataset.synthetic=1", "validation.episodes=2"]
        if not (folder / name / "record.json").is_file():
            metaloop("train", "experiment=anomalies_transformer", *words)
        evaluated(folder / name, name)


def main() -> None:
    """Measure on request, fill the page and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="finished run of experiment=anomalies_transformer")
    parser.add_argument("--runs", type=Path, default=Path("outputs/anomalies"), help="folder of the other learners' runs")
    parser.add_argument("--only", nargs="+", choices=list(NAMES), default=list(NAMES), help="learners to measure")
    options = parser.parse_args()
    if options.run is not None:
        run_all(options.run.resolve(), options.runs.resolve(), options.only)
    PAGE.write_text(filled(PAGE.read_text()))
    if any(results(labels) for labels in LABELS):
        draw(PICTURE)


if __name__ == "__main__":
    main()
