"""Compare anomaly detectors on ten held-out data sets, paired by episode, and draw their alarm curves.

    python benchmarks/anomalies.py outputs/anomalies_transformer/DATE   # trains the others, evaluates all, keeps their records
    python benchmarks/anomalies.py                                      # fills docs/anomalies.md from the records, and draws

Records are kept in docs/records/anomalies/LEARNER_LABELS. An episode is of table ``index % tables``.
"""

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaloop.metrics.interval import Interval, mean_interval

ROOT = Path(__file__).resolve().parents[1]
RECORDS, PAGE = ROOT / "docs" / "records" / "anomalies", ROOT / "docs" / "anomalies.md"
PICTURE = ROOT / "docs" / "images" / "anomalies.png"
FIRST, LABELS = "anomaly_transformer", (0, 5, 10)
RATES = (1, 2, 5, 10, 20, 50)  # columns recall_at_N of episodes.csv, in percent
NAMES = {
    FIRST: "prior-fitted transformer",
    "background_prototypes": "prototypes with a background",
    "deep_sad": "Deep SAD, meta-learned",
    "neighbour_distance": "5th nearest neighbour",
    "isolation_forest": "isolation forest",
    "local_outlier_factor": "local outlier factor",
    "one_class_svm": "one-class SVM",
    "principal_components": "principal components",
    "boosted_trees": "boosted tree",
}
RIVALS = ("neighbour_distance", "isolation_forest", "boosted_trees")  # whose best is the bar
LEARNED = {"background_prototypes": "mlp", "deep_sad": "sphere"}  # trained here, with their models
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


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


def results(labels: int) -> dict[str, Result]:
    """The kept results with so many labelled anomalies, by learner."""
    kept = {name: RECORDS / f"{name}_{labels}" for name in NAMES}
    return {name: read(folder) for name, folder in kept.items() if folder.is_dir()}


def paired(first: Result, other: Result) -> tuple[Interval, Interval]:
    """Differences of AUROC: over episodes, and over tables."""
    over_episodes = mean_interval((first.columns["score"] - other.columns["score"]).tolist())
    return over_episodes, mean_interval((first.by_table() - other.by_table()).tolist())


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def summary(labels: int) -> str:
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
    return markdown(rows)


def each_table(labels: int) -> str:
    """A row for each table, a column for each learner."""
    found = results(labels)
    if not found:
        return "Not measured yet."
    rows = [["table", *(NAMES[name] for name in found)]]
    for place, table in enumerate(next(iter(found.values())).tables):
        rows.append([table, *(f"{result.by_table()[place]:.3f}" for result in found.values())])
    return markdown(rows)


def verdict() -> str:
    """Whether the bars are met, in words."""
    lines = []
    for labels in LABELS:
        found = results(labels)
        rivals = ("neighbour_distance",) if labels == 0 else RIVALS
        if FIRST not in found or any(name not in found for name in rivals):
            lines.append(f"- {labels} labelled anomalies: not measured yet.")
            continue
        best = max(rivals, key=lambda name: found[name].by_table().mean())
        episodes, tables = paired(found[FIRST], found[best])
        low = episodes.mean - (episodes.half_width or 0.0)
        word = "held" if (episodes.mean >= 0 if labels == 0 else low > 0) else "missed"
        bar = "at least kNN's" if labels == 0 else "above the best of kNN, isolation forest and a boosted tree"
        lines.append(
            f"- {labels} labelled anomalies, bar {bar}: **{word}**. Against {NAMES[best]}: "
            f"{episodes.mean:+.4f} ± {episodes.half_width:.4f} over episodes, {tables.mean:+.4f} ± {tables.half_width:.4f} "
            f"over tables."
        )
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its tables made from the records."""
    makers = {"summary": summary, "each": each_table}

    def block(match: re.Match[str]) -> str:
        kind, _, labels = match[2].partition("_")
        return f"{match[1]}{verdict() if kind == 'verdict' else makers[kind](int(labels))}\n{match[4]}"

    return _BLOCK.sub(block, page)


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
    """Run a command of metaloop with this Python."""
    print("metaloop", *words, flush=True)
    subprocess.run([sys.executable, "-m", "metaloop", *words], check=True)


def keep(source: Path, target: Path) -> None:
    """Copy the record and the episodes of a run or evaluation, without the folders of the machine."""
    record = json.loads((source / "record.json").read_text())
    record["config"]["dataset"]["data_dir"] = "data/tabular"
    for key in ("command", "overrides"):
        record[key] = [word for word in record[key] if not word.startswith(("hydra.", "run="))]
    target.mkdir(parents=True, exist_ok=True)
    (target / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    shutil.copyfile(source / "episodes.csv", target / "episodes.csv")


def evaluated(run: Path, name: str) -> None:
    """Evaluate a run with each number of labelled anomalies, and keep the records."""
    for labels in LABELS:
        if labels == 0:
            keep(run, RECORDS / f"{name}_0")
            continue
        before = set((run / "evaluations").glob("*")) if (run / "evaluations").is_dir() else set()
        metaloop("evaluate", f"run={run}", f"dataset.labelled.test={labels}")
        (new,) = set((run / "evaluations").glob("*")) - before
        keep(new, RECORDS / f"{name}_{labels}")


def run_all(first: Path, folder: Path) -> None:
    """Train the other learners, evaluate all of them, and keep their records.

    Args:
        first: the finished run of ``experiment=anomalies_transformer``.
        folder: where the other runs are written.
    """
    evaluated(first, FIRST)
    for name in NAMES:
        if name == FIRST:
            continue
        words = ["experiment=anomalies_transformer", f"algorithm={name if name in LEARNED else 'estimator'}", f"name={name}"]
        if name in LEARNED:
            words += [f"model={LEARNED[name]}", "algorithm/over_tasks=loop"]
        else:
            words += [f"algorithm/estimator={name}", "dataset.synthetic=1", "validation.episodes=14"]
        metaloop("train", *words, f"hydra.run.dir={folder / name}")
        evaluated(folder / name, name)


def main() -> None:
    """Measure on request, fill the page and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="finished run of experiment=anomalies_transformer")
    parser.add_argument("--runs", type=Path, default=Path("outputs/anomalies"), help="folder of the other learners' runs")
    options = parser.parse_args()
    if options.run is not None:
        run_all(options.run.resolve(), options.runs.resolve())
    PAGE.write_text(filled(PAGE.read_text()))
    if any(results(labels) for labels in LABELS):
        draw(PICTURE)


if __name__ == "__main__":
    main()
