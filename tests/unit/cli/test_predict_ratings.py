"""``metaloop predict`` on runs of ratings: which items to rate first, and a ranked list of the others."""

import csv
from pathlib import Path

import pytest
import torch

from made_ratings import made_up, write_100k
from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.evaluation.adapted_model import adapt_to, load_model
from metaloop.evaluation.questions import evidence
from metaloop.records.directory import describe
from metaloop.runs.start import run_rank
from small_runs import described, rows

Captured = pytest.CaptureFixture[str]
SMALL = (
    "name=small",
    "dataset=made_up_ratings",
    "dataset.users=60",
    "dataset.items=80",
    "episode=rating",
    "episode.shots=3",
    "episode.queries=5",
    "episode.train.queries=5",
    "model=ratings",
    "algorithm/over_tasks=loop",
    "outer.meta_batch=2",
    "trainer.max_steps=2",
    "validation.every=2",
    "validation.episodes=2",
    "evaluation.episodes=2",
)
OF_ITEMS = ("model=item_factors", "algorithm=estimator", "algorithm/estimator=fold_in")


def trained(directory: Path, *overrides: str) -> Path:
    identity = described(*SMALL, *overrides)
    directory.mkdir()
    describe(directory, identity, "")
    run_rank(identity, directory, resume=False)
    return directory


@pytest.fixture(scope="module")
def melu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("ratings") / "melu", "algorithm=melu", "algorithm.rule.lr=0.1")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


RATED = ("item,rating", "item 3,5", "item 7,1", "item 11,4")


def test_unseen_items_are_ranked(melu: Path, tmp_path: Path, capsys: Captured) -> None:
    support, out = write(tmp_path / "mine.csv", *RATED), tmp_path / "ranked.csv"
    assert main(["predict", f"run={melu}", f"support={support}", "rank=4", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "adapted to" in said
    assert "and 73 more" in said
    table = rows(out)
    assert len(table) == 80 - 3
    assert not {"item 3", "item 7", "item 11"} & {row["input"] for row in table}
    means = [float(row["mean"]) for row in table]
    assert means == sorted(means, reverse=True)
    assert all(1 <= mean <= 5 for mean in means)
    model = adapt_to(melu, support)
    assert model.rank().rows.captions == tuple(row["input"] for row in table)
    query = write(tmp_path / "some.csv", "item,rating", "item 2,3", "item 9,", "item 3,5")
    asked = model.predict(query)
    ranked = dict(zip(model.rank().rows.captions, model.rank().mean.tolist(), strict=True))
    assert asked.mean[:2].tolist() == pytest.approx([ranked["item 2"], ranked["item 9"]], abs=1e-6)
    assert asked.repeated == 1
    assert asked.metric.name == "mae"
    assert asked.score.mean == pytest.approx(((asked.mean[0] - 3).abs() + (asked.mean[2] - 5).abs()).item() / 2)


@pytest.mark.parametrize("overrides", [("algorithm=melu", "algorithm.rule.lr=0.1"), ("algorithm=cnp",), OF_ITEMS], ids=str)
def test_a_kept_model_ranks_the_same(overrides: tuple[str, ...], tmp_path: Path) -> None:
    run = trained(tmp_path / "run", *overrides)
    support = write(tmp_path / "mine.csv", *RATED)
    model = adapt_to(run, support)
    model.save(tmp_path / "kept")
    loaded = load_model(tmp_path / "kept")
    assert loaded.rank().rows.captions == model.rank().rows.captions
    torch.testing.assert_close(loaded.rank().mean, model.rank().mean)


def test_ratings_and_features_of_the_user_matter(melu: Path, tmp_path: Path) -> None:
    plain = adapt_to(melu, write(tmp_path / "a.csv", *RATED)).rank()
    other = adapt_to(melu, write(tmp_path / "b.csv", "item,rating", "item 3,1", "item 7,5", "item 11,1")).rank()
    older = adapt_to(melu, write(tmp_path / "c.csv", "item,rating,age", *(f"{row},45-54" for row in RATED[1:]))).rank()
    means = [dict(zip(each.rows.captions, each.mean.tolist(), strict=True))["item 1"] for each in (plain, other, older)]
    assert len(set(means)) == 3


@pytest.mark.parametrize("rule", ["popularity_entropy", "popularity", "gradient_norm"])
def test_items_to_ask_about_become_a_support_file(rule: str, melu: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "ask.csv"
    assert main(["predict", f"run={melu}", "ask=6", f"rule={rule}", f"out={out}"]) == 0
    assert f"ask first by {rule}" in capsys.readouterr().out
    table = rows(out)
    assert len(table) == 6
    values = [float(row["value"]) for row in table]
    assert values == sorted(values, reverse=True)
    for row in table[:3]:
        row["rating"] = "4"
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    assert adapt_to(melu, out).task.shots == (3,)
    asked = made_up(evidence=str(out)).split("test")
    assert asked.order is not None
    assert int(asked.order.argmin()) == made_up().table.items.places[table[0]["item"]]


def test_popular_items_are_asked_about_first(melu: Path) -> None:
    found = evidence(melu, 5, "popularity")
    assert list(found.values) == [float(count) for count in found.ratings]
    train = made_up(hidden=0.1, shares={"users": [0.1, 0.2], "items": [0.1, 0.2], "ratings": [0.1, 0.1]}).split("train")
    assert found.ratings[0] == int(torch.bincount(train.rows.item).max())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("item,rating", "item 3,5", "item 999,2"), r"line 3: unknown item 'item 999'"),
        (("item,rating", "item 3,5", "item 3,4"), r"line 3: item 'item 3' is in line 2, too"),
        (("item,rating", "item 3,7"), r"line 2: the rating 7 is not from 1 to 5"),
        (("item,rating", "item 3,nan"), r"line 2: the rating must be a finite number"),
        (("item,rating", "item 3,"), "no rating in column 'rating'"),
        (("film,rating", "item 3,5"), "no column 'item'"),
        (("item,stars", "item 3,5"), "no column 'rating'"),
        (("item,rating,age", "item 3,5,25-34", "item 4,5,18-24"), "column 'age' has several values"),
        (("item,rating,age", "item 3,5,old"), "age 'old' must be one of under 18, 18-24"),
    ],
)
def test_bad_ratings_name_the_line_and_the_fix(lines: tuple[str, ...], message: str, melu: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        adapt_to(melu, write(tmp_path / "bad.csv", *lines))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("support=a.csv", "rank=0"), "rank=0: must be a whole number"),
        (("ask=few",), "ask=few: must be a whole number"),
        (("support=a.csv", "ask=3"), "not support="),
        (("rule=popularity",), r"write run=DIR ask=N"),
        (("ask=3", "rule=entropie"), "rules: popularity_entropy, popularity, gradient_norm"),
        (("support=a.csv", "query=a.csv", "rank=3"), "give one"),
    ],
)
def test_keys_that_do_not_fit_are_refused(words: tuple[str, ...], message: str, melu: Path, capsys: Captured) -> None:
    assert main(["predict", f"run={melu}", *words]) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_gradient_norms_need_inner_steps_and_other_runs_have_no_items(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "algorithm=cnp")
    with pytest.raises(UserError, match="takes no inner steps"):
        evidence(run, 3, "gradient_norm")


def test_films_are_named_by_number_or_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_100k(tmp_path / "data" / "ml-100k")
    monkeypatch.setenv("METALOOP_DATA", str(tmp_path / "data"))
    lines = [line for line in SMALL if not line.startswith("dataset")]
    identity = described(*lines, "dataset=movielens", "dataset.shares.users=[0.2,0.2]", "algorithm=cnp")
    run = tmp_path / "run"
    run.mkdir()
    describe(run, identity, "")
    run_rank(identity, run, resume=False)
    support = write(tmp_path / "mine.csv", "item,rating,gender", "12,5,F", "Amélie 13 (1944),2,F")
    model = adapt_to(run, support)
    assert model.task.shots == (2,)
    assert len(model.rank().rows) == 78
