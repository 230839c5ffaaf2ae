"""Keep the records of the sweep ``meta_knowledge`` and write their table, tree and picture into docs/knowledge.md.

    metaloop sweep meta_knowledge
    python benchmarks/knowledge.py outputs/sweeps/meta_knowledge

Without a folder, the page is written anew from the kept records. The table of warm-started searches is from the record of
benchmarks/warm_start.py.
"""

import argparse
import base64
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metaloop.metrics.interval import mean_interval
from metaloop.records.explanations import EXPLANATION, read_explanation
from metaloop.records.reading import read_record
from metaloop.records.schema import RECORD
from metaloop.records.tables import read_episodes
from metaloop.report.figures.importance_plot import feature_figure
from metaloop.report.figures.pictures import picture
from metaloop.system.files import write_atomically

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "records" / "meta_knowledge"
PAGE, PICTURE = ROOT / "docs" / "knowledge.md", ROOT / "docs" / "images" / "knowledge.png"
WARM_START = ROOT / "benchmarks" / "records" / "warm_start.json"
ORDER = ("meta_forest", "meta_tree", "nearest_datasets", "dataset_embedding")


def keep(sweep: Path) -> None:
    """Copy records, episodes and explanations of all runs, with the path of the data relative to ``data``."""
    for path in sorted(sweep.glob(f"*/{RECORD}")):
        record = json.loads(path.read_text())
        target = KEPT / f"{record['choices']['algorithm']}_seed{record['seed']}"
        data = Path(record["config"]["dataset"]["path"])
        record["config"]["dataset"]["path"] = str(Path("data", *data.parts[-3:]))
        record["command"] = ["metaloop", "sweep", "meta_knowledge"]
        write_atomically(target / RECORD, json.dumps(record, indent=1) + "\n")
        for name in ("episodes.csv", EXPLANATION):
            write_atomically(target / name, (path.parent / name).read_text())


def folders(algorithm: str) -> list[Path]:
    """Kept runs of an algorithm, by seed."""
    return sorted(KEPT.glob(f"{algorithm}_seed*"))


def table() -> list[str]:
    """Rows of the page's table: the mean over seeds, its paired interval over data sets, and the spread over seeds."""
    lines = [
        "| algorithm | share of the gap left | 95 % interval | sd over seeds | mean accuracy | another learner chosen |",
        "|---|---|---|---|---|---|",
        "| best learner of each data set | 0 | | | {oracle} | |",
    ]
    for algorithm in ORDER:
        runs = [read_episodes(folder / "episodes.csv") for folder in folders(algorithm)]
        records = [read_record(folder) for folder in folders(algorithm)]
        interval = mean_interval(np.mean([list(run.values()) for run in runs], 0))
        low, high = interval.mean - (interval.half_width or 0), interval.mean + (interval.half_width or 0)
        spread = np.std([np.mean(list(run.values())) for run in runs], ddof=1)
        others = [np.mean([record.test.others[name].mean for record in records]) for name in ("performance", "changed")]
        lines.append(
            f"| `{algorithm}` | {interval.mean:.3f} | {low:.3f} to {high:.3f} | {spread:.3f} | {others[0]:.4f} | "
            f"{100 * others[1]:.0f} % |"
        )
        oracle = records[0].test.oracle
        assert oracle is not None
        lines[2] = lines[2].format(oracle=f"{oracle.others['performance'].mean:.4f}")
    single = single_best()
    lines.append(f"| single best learner, weka.LMT | 1 | | | {single:.4f} | 0 % |")
    return lines


def single_best() -> float:
    """Mean accuracy of the single best learner, from a run's score, 1 - (performance - single) / gap."""
    folder = folders(ORDER[0])[0]
    test = read_record(folder).test
    assert test.oracle is not None
    best = test.oracle.others["performance"].mean
    return float((test.others["performance"].mean - (1 - test.mean) * best) / test.mean)


def warm_start() -> list[str]:
    """Rows of the table of trials that a warm start saves, from benchmarks/records/warm_start.json."""
    record = json.loads(WARM_START.read_text())
    lines = [
        "| held-out table | trials of the cold search until its best | trials of the warm one | share | seeds that reach it |",
        "|---|---|---|---|---|",
    ]
    for name, row in record["summary"].items():
        lines.append(
            f"| {name.removeprefix('adbench:')} | {row['cold_trials']:.1f} of {record['trials']} | {row['warm_trials']:.1f} | "
            f"{row['share_of_cold_search']:.2f} | {row['reached']} of {record['seeds']} |"
        )
    means = [np.mean([row[key] for row in record["summary"].values()]) for key in ("cold_trials", "warm_trials")]
    share = np.mean([row["share_of_cold_search"] for row in record["summary"].values()])
    reached = sum(row["reached"] for row in record["summary"].values())
    total = record["seeds"] * len(record["summary"])
    lines.append(f"| mean | {means[0]:.1f} of {record['trials']} | {means[1]:.1f} | {share:.2f} | {reached} of {total} |")
    return lines


def replaced(page: str, parts: Mapping[str, Sequence[str]]) -> str:
    """The page with new lines between ``<!-- name -->`` and ``<!-- end -->``."""
    for name, lines in parts.items():
        text = "\n".join([f"<!-- {name} -->", *lines, "<!-- end -->"])
        page, count = re.subn(rf"<!-- {name} -->.*?<!-- end -->", lambda _, text=text: text, page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"{PAGE}: no part {name}")
    return page


def main() -> int:
    """Write records, page and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, nargs="?", help="folder of the sweep")
    options = parser.parse_args()
    if options.sweep is not None:
        keep(options.sweep)
    forest, tree = (read_explanation(folders(name)[0]) for name in ("meta_forest", "meta_tree"))
    assert forest is not None
    assert tree is not None
    drawn = picture(lambda theme: feature_figure(forest.importances, theme), "")
    assert drawn is not None
    write_atomically(PICTURE, base64.b64decode(drawn.light))
    parts = {"results": table(), "tree": ["```", *tree.tree, "```"], "warm start": warm_start()}
    write_atomically(PAGE, replaced(PAGE.read_text(), parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
