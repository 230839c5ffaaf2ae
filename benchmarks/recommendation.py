"""Compare meta-learners with baselines of recommendation, and write docs/recommendation.md.

    python benchmarks/recommendation.py             # trains and tests all (about 25 minutes), writes the record and the page
    python benchmarks/recommendation.py --page      # writes the page and its picture anew from the record

On made-up ratings, and on ml-100k if it lies at DATA/ml-100k. Every learner is trained once, with the seed 0, and meets the
same 20 splits of each test user's ratings into support and queries. A user's score is the mean over the splits; intervals
are over users. Settings were chosen by meta-validation of new users on made-up ratings alone.
"""

import argparse
import base64
import csv
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import metaloop
from metaloop.config.build import build_dataset, build_plan
from metaloop.data.philox import Stream
from metaloop.data.ratings.dataset import SCENARIOS
from metaloop.evaluation.evaluate import evaluate
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.evaluation.questions import RULES, evidence
from metaloop.metrics.interval import Interval, mean_interval
from metaloop.records.environment import versions
from metaloop.records.writing import write_csv
from metaloop.report.figures.pictures import picture
from metaloop.report.figures.theme import Theme, new_figure, titles
from metaloop.system.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "recommendation.md", ROOT / "docs" / "images" / "recommendation.png"
RECORD, RUNS = ROOT / "benchmarks" / "records" / "recommendation.json", Path("outputs") / "recommendation"
SPLITS = 20
BASELINE = "item mean and user bias"
ITEMS = ("model=item_factors", "algorithm=estimator")
ONCE = ("trainer.max_steps=1", "validation.every=1", "validation.episodes=2")
TUNED = ("algorithm.rule.lr=0.05",)
LEARNERS = {
    "item mean": (*ITEMS, "algorithm/estimator=item_mean", *ONCE),
    BASELINE: (*ITEMS, "algorithm/estimator=user_bias", *ONCE),
    "factorisation, fold-in": (*ITEMS, "algorithm/estimator=fold_in", *ONCE),
    "MeLU, authors' settings": ("algorithm=melu", "dataset.ids=[]", "outer.optimizer.lr=5e-5"),
    "MeLU": ("algorithm=melu", *TUNED),
    "ANIL": ("algorithm=anil", *TUNED),
    "MAML": ("algorithm=maml", *TUNED),
    "conditional neural process": (),
    "attentive neural process": ("algorithm=anp",),
    "set transformer": ("algorithm=set_transformer",),
}
SHOTS = (1, 2, 3, 5, 10)
SHOWN = (BASELINE, "MeLU", "conditional neural process")  # in the picture, and in the other scenarios
ASKING = "MeLU"  # learner that the evidence is tested with


def trained(name: str, data: Sequence[str], folder: Path) -> tuple[Path, float]:
    """Train a learner, or find its finished run; return its directory and the processor time in minutes."""
    directory = folder / re.sub(r"\W+", "_", name)
    spent = directory / "cpu_minutes.txt"
    if not spent.exists():
        start = time.process_time()
        overrides = ["experiment=cold_start", *data, *LEARNERS[name], f"hydra.run.dir={directory}"]
        metaloop.train(metaloop.compose(*overrides))
        spent.write_text(str((time.process_time() - start) / 60))
    return directory, float(spent.read_text())


def scores(directory: Path, *overrides: str) -> dict[str, np.ndarray]:
    """Scores (users,) of each user by name: means over the splits, in the order of the users' numbers."""
    run = FinishedRun.open(directory)
    config = json.loads(json.dumps(run.config))
    for key, value in (override.split("=", 1) for override in overrides):
        group, _, name = key.partition(".")
        config[group][name] = int(value) if value.isdecimal() else value
    plan = build_plan(config)
    tasks = build_dataset(config).split("test")
    users = tasks.eligible(plan.spec)
    count = SPLITS * len(users)
    _, folder = evaluate(directory, [*overrides, f"evaluation.episodes={count}"])
    with (folder / "episodes.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    who = tasks.users_of(Stream(plan.eval_seed, "test"), torch.arange(count), plan.spec).numpy()
    names = {"mae": "score", "rmse": "rmse", "ndcg": tasks.problem.ndcg.name}
    found = {name: np.array([float(row[column]) for row in rows]) for name, column in names.items()}
    return {name: np.array([values[who == user].mean() for user in users.tolist()]) for name, values in found.items()}


def measured(data: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train and test everything on one data set; the result is plain data."""
    result: dict[str, Any] = {"learners": {}, "scenarios": {}, "shots": {}, "evidence": {}}
    runs = {}
    for name, overrides in LEARNERS.items():
        runs[name], minutes = trained(name, data, folder)
        print(f"{name}: {minutes:.1f} CPU minutes", flush=True)
        result["learners"][name] = {"overrides": list(overrides), "cpu_minutes": minutes, **lists(scores(runs[name]))}
    for name in SHOWN:
        result["scenarios"][name] = {each: lists(scores(runs[name], f"dataset.scenario={each}")) for each in SCENARIOS}
        result["shots"][name] = {str(count): lists(scores(runs[name], f"episode.shots={count}")) for count in SHOTS}
    for rule in RULES:
        path = (folder / f"ask_{rule}.csv").resolve()
        write_csv(path, evidence(runs[ASKING], 10**6, rule).table())
        result["evidence"][rule] = lists(scores(runs[ASKING], f"dataset.evidence={path}"))
    return result | {"user": one_user(runs["MeLU"])}


def lists(values: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Scores as lists of rounded numbers."""
    return {name: [round(float(each), 5) for each in value] for name, value in values.items()}


def one_user(directory: Path) -> dict[str, Any]:
    """What one test user's predictions are after each rating: the user with the most ratings, ten of them as queries."""
    config = json.loads(json.dumps(FinishedRun.open(directory).config))
    config["episode"] |= {"shots": 10, "queries": 10}
    test = FinishedRun.open(directory).test(config)
    tasks = test.data.dataset.split("test")
    user = int(tasks._sizes.argmax())
    numbers = torch.arange(len(tasks.eligible(test.data.plan.spec)))
    stream, spec = Stream(test.data.plan.eval_seed, "test"), test.data.plan.spec
    episode = test.data.episodes("test", "cpu").tasks(numbers[tasks.users_of(stream, numbers, spec) == user])
    middle, predicted = tasks.problem.middle, []
    for count in range(1, 11):
        support = episode.support.map(lambda tensor, count=count: tensor[:, :count])
        predicted.append((test.learner.eval().adapt(support)(episode.query.x)[0, :, 0].detach() + middle).tolist())
    rated, asked = ((part.y[0, :, 0] + middle).tolist() for part in (episode.support, episode.query))
    return {"rated": rated, "queries": asked, "predicted": predicted}


def drawn(record: dict[str, Any], theme: Theme) -> Figure:
    """Left: error after each number of ratings. Right: one user's predictions after each rating."""
    figure, (left, right) = new_figure(theme, 2, (10.5, 4.0))
    for place, name in enumerate(SHOWN):
        means = [mean_interval(record["shots"][name][str(count)]["mae"]) for count in SHOTS]
        left.plot(SHOTS, [each.mean for each in means], marker="o", color=theme.palette[place], label=name)
    left.set_xticks(SHOTS)
    left.legend(fontsize=8.5, labelcolor=theme.text, frameon=False)
    titles(left, theme, "ratings of a new user", "mean absolute error (stars)", "All test users")
    user = record["user"]
    steps = np.arange(1, 11)
    for place, rating in enumerate(user["queries"]):
        curve = [each[place] for each in user["predicted"]]
        color = theme.palette[int(rating) - 1]
        right.plot(steps, curve, color=color, linewidth=1.6)
        right.annotate(
            f"{rating:.0f}", (10, curve[-1]), (4, 0), textcoords="offset points", color=color, fontsize=9, va="center"
        )
    for step, rating in zip(steps, user["rated"], strict=True):
        right.annotate(
            f"{rating:.0f}",
            (step, 1),
            (0, -1),
            textcoords="offset points",
            ha="center",
            color=theme.muted,
            fontsize=8.5,
            xycoords=right.get_xaxis_transform(),
            va="top",
        )
    right.set_xticks(steps)
    titles(
        right,
        theme,
        "ratings given so far",
        "predicted rating (stars)",
        "One user, MeLU; right: what the user gave, top: ratings given",
    )
    return figure


def difference(values: Sequence[float], base: Sequence[float]) -> Interval:
    """Mean and interval of the paired difference over users."""
    return mean_interval((np.array(values) - np.array(base)).tolist())


def shown(interval: Interval, *, signed: bool = False) -> str:
    """A mean and its half-width."""
    text = f"{interval.mean:+.4f}" if signed else f"{interval.mean:.4f}"
    return f"{text.replace('-', '−')} ± {interval.half_width or 0:.4f}"


def tables(record: dict[str, Any]) -> dict[str, list[str]]:
    """Lines of the page's tables."""
    base = record["learners"][BASELINE]
    first = [
        "| learner | MAE | MAE minus that of item mean and user bias | RMSE | nDCG@5 | CPU minutes |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in record["learners"].items():
        pair = "" if name == BASELINE else shown(difference(row["mae"], base["mae"]), signed=True)
        means = [shown(mean_interval(row[each])) for each in ("rmse", "ndcg")]
        first.append(
            f"| {name} | {shown(mean_interval(row['mae']))} | {pair} | {means[0]} | {means[1]} | {row['cpu_minutes']:.1f} |"
        )
    others = ["| learner | " + " | ".join(words for words, *_ in SCENARIOS.values()) + " |", "|---" * 5 + "|"]
    for name in SHOWN:
        cells = []
        for scenario in SCENARIOS:
            values = record["scenarios"][name][scenario]["mae"]
            pair = difference(values, record["scenarios"][BASELINE][scenario]["mae"])
            cells.append(f"{np.mean(values):.4f}" + ("" if name == BASELINE else f" ({shown(pair, signed=True)})"))
        others.append(f"| {name} | {' | '.join(cells)} |")
    asked = ["| items that are asked about | MAE | MAE minus that of random items |", "|---|---|---|"]
    at_random = record["learners"][ASKING]["mae"]
    asked.append(f"| random | {shown(mean_interval(at_random))} | |")
    for rule, row in record["evidence"].items():
        asked.append(
            f"| `{rule}` | {shown(mean_interval(row['mae']))} | {shown(difference(row['mae'], at_random), signed=True)} |"
        )
    return {"learners": first, "scenarios": others, "evidence": asked}


def write_page(record: dict[str, Any]) -> None:
    """Fill the tables of the page and draw its picture."""
    page = PAGE.read_text()
    data = {"made_up": record["made_up"]} | ({"ml_100k": record["ml_100k"]} if "ml_100k" in record else {})
    for name, part in data.items():
        for table, lines in tables(part).items():
            text = "\n".join([f"<!-- {name}: {table} -->", *lines, "<!-- end -->"])
            page = re.sub(rf"<!-- {name}: {table} -->.*?<!-- end -->", lambda _, text=text: text, page, flags=re.DOTALL)
    write_atomically(PAGE, page)
    made = picture(lambda theme: drawn(record["made_up"], theme), "")
    assert made is not None
    write_atomically(PICTURE, base64.b64decode(made.light))


def main() -> int:
    """Measure if asked to, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the page anew from the record")
    options = parser.parse_args()
    if not options.page:
        record: dict[str, Any] = {"versions": versions(), "splits": SPLITS, "made_up": measured((), RUNS / "made_up")}
        films = Path(os.environ.get("METALOOP_DATA", "data")) / "ml-100k"
        if films.is_dir():
            record["ml_100k"] = measured(("dataset=movielens",), RUNS / "ml_100k")
        write_atomically(RECORD, json.dumps(record, indent=1) + "\n")
    write_page(json.loads(RECORD.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
