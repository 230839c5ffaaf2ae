"""Thresholds for a wanted rate of alarms, and ``metaloop predict`` on a user's own rows."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from metaloop.cli.main import main
from metaloop.data.tables.anomalies.own_rows import checked_rows
from metaloop.data.user.tables import read_user_table
from metaloop.data.user.tasks import Columns
from metaloop.errors import UserError
from metaloop.evaluation.adapted_model import AdaptedModel, adapt_to, load_model
from metaloop.evaluation.alarms import alarm_threshold, held_out_scores
from metaloop.records.directory import describe
from metaloop.runs.start import run_rank
from small_runs import described

SMALL = (
    "name=small", "dataset=anomaly_prior", "model=cells", "algorithm=estimator", "algorithm/estimator=neighbour_distance",
    "episode=anomalies", "episode.shots=20", "episode.train.shots=20", "episode.queries=10", "episode.train.queries=10",
    "validation.episodes=2", "evaluation.episodes=2", "outer.meta_batch=2", "trainer.max_steps=1", "validation.every=1",
)  # fmt: skip


def write(path: Path, x: np.ndarray, labels: list[object] | None) -> Path:
    head = [*(f"c{number}" for number in range(x.shape[1])), *([] if labels is None else ["label"])]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *([*row, *([] if labels is None else [labels[i]])] for i, row in enumerate(x))])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, 120 inliers without labels, and queries of which the last five are anomalies."""
    folder = tmp_path_factory.mktemp("alarms")
    identity = described(*SMALL)
    (folder / "run").mkdir()
    describe(folder / "run", identity, "")
    run_rank(identity, folder / "run", resume=False)
    random = np.random.default_rng(0)
    write(folder / "support.csv", random.normal(size=(120, 3)), None)
    query = random.normal(size=(200, 3))
    query[195:] += 5
    write(folder / "query.csv", query, [0] * 195 + [1] * 5)
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> AdaptedModel:
    return adapt_to(place / "run", place / "support.csv")


def test_predict_writes_a_score_and_an_alarm_for_each_row(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "scores.csv"
    words = [f"run={place / 'run'}", f"support={place / 'support.csv'}", f"query={place / 'query.csv'}", f"out={out}"]
    assert main(["predict", *words, "alarm_rate=0.05"]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "input", "score", "alarm"]
    alarms = [int(row["alarm"]) for row in rows]
    assert alarms[195:] == [1] * 5
    assert sum(alarms[:195]) <= 24  # about one in twenty
    record = json.loads(out.with_suffix(".json").read_text())
    assert [float(row["score"]) > record["threshold"] for row in rows] == [bool(alarm) for alarm in alarms]
    assert record["score"]["metric"]["name"] == "auroc"
    assert record["score"]["mean"] > 0.99
    printed = capsys.readouterr().out
    assert f"{sum(alarms)} of 200 rows" in printed
    assert "120 examples, of which 0 labelled anomalies" in printed


def test_the_detector_of_the_package_needs_no_run_and_no_data(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METALOOP_DATA", str(place / "nothing"))
    monkeypatch.chdir(place)
    files = [f"support={place / 'support.csv'}", f"query={place / 'query.csv'}"]
    assert main(["predict", "model=detector", *files, "alarm_rate=0.05", "out=shipped.csv"]) == 0
    record = json.loads((place / "shipped.json").read_text())
    assert record["score"]["mean"] > 0.99
    with (place / "shipped.csv").open() as file:
        alarms = [int(row["alarm"]) for row in csv.DictReader(file)]
    assert alarms[195:] == [1] * 5
    assert sum(alarms[:195]) <= 24


def test_a_kept_model_gives_the_same_alarms(model: AdaptedModel, place: Path) -> None:
    model.save(place / "kept")
    expected = model.predict(place / "query.csv", alarm_rate=0.02)
    found = load_model(place / "kept").predict(place / "query.csv", alarm_rate=0.02)
    assert found.threshold == expected.threshold
    assert found.table() == expected.table()
    assert model.predict(place / "query.csv").table().keys() == {"row", "input", "score"}


def test_the_rate_of_alarms_is_about_the_wanted_one(model: AdaptedModel) -> None:
    rows = np.random.default_rng(1).normal(size=(4000, 3)).astype(str).tolist()
    found = model.predict(rows, alarm_rate=0.1)
    assert 0.05 < np.mean(found.alarms) < 0.16


def test_no_inlier_is_scored_by_a_learner_that_was_shown_it(model: AdaptedModel) -> None:
    shown = model.predictor(model.dataset.user_inputs(model.task.inputs, model.task.targets, None, model.task.inputs)[1])
    held = held_out_scores(model.dataset, model.task, model.learner)
    assert len(held) == 120
    assert held.mean() > shown.mean()  # among themselves, rows are their own nearest neighbours
    highest = held.sort(descending=True).values
    assert alarm_threshold(model.dataset, model.task, model.learner, 0.03) == highest[2]  # floor(0.03 * 121) = 3


def test_rates_that_cannot_be_are_refused(model: AdaptedModel, place: Path) -> None:
    with pytest.raises(UserError, match=r"with 120 inliers in the support set the lowest rate is 0.0083; .*at least 199"):
        model.predict(place / "query.csv", alarm_rate=0.005)
    for rate in ("2", "much"):
        with pytest.raises(UserError, match=rf"alarm_rate={rate}: must be a share"):
            main_words(place, f"alarm_rate={rate}")


def main_words(place: Path, *more: str) -> None:
    from metaloop.cli.predict import main as predict

    predict([f"run={place / 'run'}", f"support={place / 'support.csv'}", f"query={place / 'query.csv'}", *more])


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([1] * 12, "no inlier among 12 rows; at least 5 rows without an anomaly are needed"),
        ([0, 0, *[1] * 10], "2 inliers among 12 rows"),
        ([0] * 11 + ["odd"], "the label is 'odd'; write 1 for an anomaly, 0 or nothing"),
    ],
)
def test_support_sets_that_say_too_little_are_refused(labels: list[object], fault: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own.csv", np.ones((12, 2)), labels)
    rows = read_user_table(path, Columns(), None, labelled=False)
    with pytest.raises(UserError, match=fault):
        checked_rows(rows, labelled=True)


def test_rows_without_labels_count_as_inliers_and_missing_values_are_read(place: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(30, 3)).astype(object)
    x[3, 1] = ""
    model = adapt_to(place / "run", write(tmp_path / "own.csv", x, ["", "1", *["0"] * 28]))
    assert model.task.y.sum() == 1
    assert torch.isfinite(torch.tensor(model.predict(tmp_path / "own.csv").table()["score"])).all()  # type: ignore[arg-type]
