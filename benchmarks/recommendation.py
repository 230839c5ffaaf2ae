"""Compare meta-learners with baselines of recommendation, and write docs/recommendation.md.

    python benchmarks/recommendation.py             # trains and tests all, writes the record and the page
    python benchmarks/recommendation.py --page      # writes the page and its picture anew from the record

On made-up ratings, and on ml-100k if it lies at DATA/ml-100k. Every learner is trained once, with the seed 0, and meets the
same 20 splits of each test user's ratings into support and queries. A user's score is the mean over the splits; intervals
are over users.
"""

import argparse
import base64
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import metaloop
from metaloop.data.episodes import Episodes
from metaloop.data.ratings.dataset import SCENARIOS
from metaloop.data.ratings.made_up import MadeUpRatings
from metaloop.data.ratings.tasks import first_column
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.evaluation.questions import RULES, evidence
from metaloop.learners.learner import Learner
from metaloop.metrics.interval import Interval, mean_interval
from metaloop.records.environment import versions
from metaloop.records.writing import write_csv
from metaloop.report.figures.pictures import picture
from metaloop.report.figures.theme import Theme, new_figure, titles
from metaloop.system.files import write_atomically
from metaloop.types import Tasks

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "recommendation.md", ROOT / "docs" / "images" / "recommendation.png"
RECORD, RUNS = ROOT / "benchmarks" / "records" / "recommendation.json", Path("outputs") / "recommendation"
SPLITS, FEWER = 20, 2  # of each user's ratings: in the first table, and elsewhere
BASELINE = "item mean and user bias"
NEAREST, POSSIBLE = "item mean and user bias, nearest star", "best possible, true items known, nearest star"
ITEMS = ("model=item_factors", "algorithm=estimator")
ONCE = ("trainer.max_steps=1", "validation.every=1", "validation.episodes=2")
TUNED = ("algorithm.rule.lr=0.05", "trainer.max_steps=600", "validation.every=100", "validation.episodes=364")
CHOSEN = ("trainer.max_steps=800", "validation.every=100", "validation.episodes=364")
LEARNERS = {
    "item mean": (*ITEMS, "algorithm/estimator=item_mean", *ONCE),
    BASELINE: (*ITEMS, "algorithm/estimator=user_bias", *ONCE),
    "factorisation, fold-in": (*ITEMS, "algorithm/estimator=fold_in", *ONCE),
    "conditional neural process": CHOSEN,
    "attentive neural process": ("algorithm=anp", *CHOSEN),
    "MeLU": ("algorithm=melu", "model.embedding=32", *TUNED),
    "ANIL": ("algorithm=anil", "model.embedding=32", *TUNED),
    "MAML": ("algorithm=maml", "model.embedding=32", *TUNED),
}
MOST = 10  # ratings in the picture
SHOWN = (BASELINE, "MeLU", "conditional neural process")  # in the picture, and in the other scenarios
ASKING = "MeLU"  # learner that the evidence is tested with


def trained(name: str, data: Sequence[str], folder: Path) -> tuple[Path, float]:
    """Train and test a learner, or find its finished run; return its directory and the processor time in minutes."""
    directory = folder / re.sub(r"\W+", "_", name)
    spent = directory / "cpu_minutes.txt"
    if not spent.exists():
        start = time.process_time()
        metaloop.train(metaloop.compose("experiment=cold_start", *data, *LEARNERS[name]), directory)
        spent.write_text(str((time.process_time() - start) / 60))
    return directory, float(spent.read_text())


Answer = Callable[[Tasks], torch.Tensor]  # what a predictor answers to the queries of stacked tasks


def scores(directory: Path, splits: int = FEWER, answer: Answer | None = None, **changes: Any) -> dict[str, list[float]]:
    """Scores (users,) by name of each user with the best checkpoint: means over the splits, in the order of users' numbers.

    Args:
        directory: run directory.
        splits: number of splits of each user's ratings.
        answer: predictor in the place of the run's learner.
        changes: keys of ``dataset`` to change.
    """
    learner, episodes, users = opened(directory, changes, {})
    tasks, parts, who = episodes.distribution, [], []
    for numbers in torch.arange(splits * len(users)).split(len(users)):
        drawn = episodes.tasks(numbers)
        answers = answer(drawn) if answer else learner.adapt(drawn.support)(drawn.query.x, drawn.query.mask).detach()
        parts.append(tasks.problem.scores(answers, drawn.query))
        who.append(tasks.users_of(episodes.stream, numbers, episodes.spec))
    names = {"mae": "score", "rmse": "rmse", "ndcg": tasks.problem.ndcg.name}
    values, user = {name: torch.cat([part[key] for part in parts]) for name, key in names.items()}, torch.cat(who)
    return {name: rounded([each[user == one].mean() for one in users]) for name, each in values.items()}


def opened(directory: Path, dataset: dict[str, Any], episode: dict[str, Any]) -> tuple[Learner, Episodes, torch.Tensor]:
    """The learner, its test episodes and their users, with these changes of the run's config."""
    run = FinishedRun.open(directory)
    config = json.loads(json.dumps(run.config))
    config["dataset"] |= dataset
    config["episode"] |= episode
    test = run.test(config)
    episodes = test.data.episodes("test", "cpu")
    return test.learner.eval(), episodes, episodes.distribution.eligible(episodes.spec)


def as_distributions(means: torch.Tensor) -> torch.Tensor:
    """Means as normal distributions of deviation 1, of which absolute errors ask for the nearest star."""
    return torch.stack([means, torch.ones_like(means)], -1)


def nearest_star(directory: Path) -> dict[str, list[float]]:
    """Scores of item mean and user bias if absolute errors are those of the nearest star, as for learners of distributions."""
    learner, *_ = opened(directory, {}, {})
    return scores(directory, SPLITS, lambda drawn: as_distributions(learner.adapt(drawn.support)(drawn.query.x).detach()))


def best_possible(directory: Path) -> dict[str, list[float]]:
    """Scores of the posterior mean for one who knows the random model but the user's own vector; of made-up ratings."""
    run = FinishedRun.open(directory)
    data = MadeUpRatings(**{key: value for key, value in run.config["dataset"].items() if key != "_target_"})
    truth, table, rows = data.truth(), data.read(), data.split("test")
    column = first_column(rows.fields, "item")
    numbers = {0: 0} | dict(zip(rows.rows.x[:, column].tolist(), rows.rows.item.tolist(), strict=True))  # 0 is padding
    users = [table.users.places[name] for name in rows.users]
    episodes = run.test().data.episodes("test", "cpu")

    def answer(drawn: Tasks) -> torch.Tensor:
        who = rows.users_of(episodes.stream, drawn.index, episodes.spec).tolist()
        rated, asked = (np.vectorize(numbers.__getitem__)(part.x[..., column].numpy()) for part in (drawn.support, drawn.query))
        middle, ratings = rows.problem.middle, drawn.support.y[..., 0].double().numpy()
        means = [truth.expected(users[u], r, y + middle, q) for u, r, y, q in zip(who, rated, ratings, asked, strict=True)]
        return as_distributions(torch.tensor(np.array(means) - middle)[..., None])

    return scores(directory, SPLITS, answer)


def by_number(directory: Path) -> list[float]:
    """Mean absolute error over the test users after 1 to 10 ratings, with the same splits and queries throughout."""
    learner, episodes, users = opened(directory, {}, {"shots": MOST})
    drawn, problem = episodes.tasks(torch.arange(FEWER * len(users))), episodes.distribution.problem
    means = []
    for count in range(1, MOST + 1):
        support = drawn.support.map(lambda tensor, count=count: tensor[:, :count])
        answers = learner.adapt(support)(drawn.query.x, drawn.query.mask).detach()
        means.append(problem.scores(answers, drawn.query)["score"].mean())
    return rounded(means)


def measured(data: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train and test everything on one data set; the result is plain data."""
    result: dict[str, Any] = {"learners": {}, "scenarios": {}, "numbers": {}, "evidence": {}}
    runs = {}
    for name, overrides in LEARNERS.items():
        runs[name], minutes = trained(name, data, folder)
        values = scores(runs[name], SPLITS)
        print(f"{name}: {minutes:.2f} CPU minutes, mean absolute error {np.mean(values['mae']):.4f}", flush=True)
        result["learners"][name] = {"overrides": list(overrides), "cpu_minutes": round(minutes, 2), **values}
    result["learners"][NEAREST] = {"overrides": [], "cpu_minutes": None, **nearest_star(runs[BASELINE])}
    if not data:
        result["learners"][POSSIBLE] = {"overrides": [], "cpu_minutes": None, **best_possible(runs[BASELINE])}
    for name in SHOWN:
        result["numbers"][name] = by_number(runs[name])
        result["scenarios"][name] = {each: scores(runs[name], scenario=each) for each in SCENARIOS}
    result["evidence"]["random"] = scores(runs[ASKING])
    for rule in RULES:
        path = (folder / f"ask_{rule}.csv").resolve()
        write_csv(path, evidence(runs[ASKING], 10**6, rule).table())
        result["evidence"][rule] = scores(runs[ASKING], evidence=str(path))
    return result | {"user": one_user(runs[ASKING])}


def rounded(values: Sequence[float]) -> list[float]:
    """Numbers with five decimals."""
    return [round(float(each), 5) for each in values]


def one_user(directory: Path) -> dict[str, Any]:
    """What one test user's predictions are after each rating: the first user with ten ratings as support and ten as queries."""
    learner, episodes, _ = opened(directory, {}, {"shots": MOST, "queries": 10})
    episode, predicted = episodes.tasks(torch.arange(1)), []
    middle = episodes.distribution.problem.middle
    for count in range(1, MOST + 1):
        support = episode.support.map(lambda tensor, count=count: tensor[:, :count])
        predicted.append(rounded(learner.adapt(support)(episode.query.x)[0, :, 0].detach() + middle))
    rated, asked = (rounded(part.y[0, :, 0] + middle) for part in (episode.support, episode.query))
    return {"rated": rated, "queries": asked, "predicted": predicted}


def drawn(record: dict[str, Any], theme: Theme) -> Figure:
    """Left: error after each number of ratings. Right: one user's predictions after each rating."""
    figure, (left, right) = new_figure(theme, 2, (10.5, 4.0))
    steps = np.arange(1, MOST + 1)
    for place, name in enumerate(SHOWN):
        left.plot(steps, record["numbers"][name], marker="o", color=theme.palette[place], label=name)
    left.set_xticks(steps)
    left.legend(fontsize=8.5, labelcolor=theme.text, frameon=False)
    titles(left, theme, "ratings of a new user", "mean absolute error (stars)", "All test users")
    user = record["user"]
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
        "One user, MeLU",
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
        minutes = "–" if row["cpu_minutes"] is None else f"{row['cpu_minutes']:.1f}"
        first.append(f"| {name} | {shown(mean_interval(row['mae']))} | {pair} | {means[0]} | {means[1]} | {minutes} |")
    others = ["| learner | " + " | ".join(words for words, *_ in SCENARIOS.values()) + " |", "|---" * 5 + "|"]
    for name in SHOWN:
        cells = []
        for scenario in SCENARIOS:
            values = record["scenarios"][name][scenario]["mae"]
            pair = difference(values, record["scenarios"][BASELINE][scenario]["mae"])
            cells.append(f"{np.mean(values):.4f}" + ("" if name == BASELINE else f" ({shown(pair, signed=True)})"))
        others.append(f"| {name} | {' | '.join(cells)} |")
    asked = ["| items that are asked about | MAE | MAE minus that of random items |", "|---|---|---|"]
    at_random = record["evidence"]["random"]["mae"]
    asked.append(f"| random | {shown(mean_interval(at_random))} | |")
    for rule, row in record["evidence"].items():
        if rule == "random":
            continue
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
