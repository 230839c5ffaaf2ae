"""Lightning's loggers as trackers."""

import csv
import logging
from functools import partial
from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger, Logger

from metaloop.config.build_run import build_run
from metaloop.errors import UserError
from metaloop.tracking import lightning
from metaloop.tracking.lightning import LightningTracker
from small_runs import SMALL, described
from tracked_runs import RECORD, info, train


def test_a_lightning_logger_has_config_rows_and_scores(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,train/loss\n5,1.5\n10,1.25\n15,9.0\n")
    tracker = LightningTracker(partial(CSVLogger, tmp_path / "theirs", name="name"))
    tracker.start(info(tmp_path, resumed_step=10))
    tracker.log({"train/loss": 0.5}, 15)
    tracker.finish(RECORD, "finished")
    (folder,) = (tmp_path / "theirs" / "name").iterdir()
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["train/loss"]) for row in rows] == [("5", "1.5"), ("10", "1.25"), ("15", "0.5"), ("30", "")]
    assert rows[-1]["test/score"] == "0.9"
    config = (folder / "hparams.yaml").read_text()
    assert "max_steps: 30" in config
    assert "group: sweep_7" in config


def test_a_fault_of_a_lightning_logger_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def broken() -> Logger:
        tries.append(1)
        raise OSError("the database is locked")

    monkeypatch.setattr(lightning, "_PAUSES", (0.0, 0.0))
    with caplog.at_level(logging.WARNING):
        train(LightningTracker(broken), tmp_path, 5, 20)
    assert ["the database is locked" in message for message in caplog.messages] == [True]
    assert len(tries) == 3


def test_a_lightning_logger_that_fails_at_first_has_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def making() -> Logger:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("another run makes the table")
        return CSVLogger(tmp_path / "theirs", name="name", version=7)

    monkeypatch.setattr(lightning, "_PAUSES", (0.0,))
    train(LightningTracker(making), tmp_path, 5, 20)
    assert (tmp_path / "theirs" / "name" / "version_7" / "metrics.csv").read_text().count(
        "\n"
    ) == 7  # header, four rows and two


def test_a_logger_without_its_package_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'metaloop\[mlflow\]'"):
        build_run(described(*SMALL, "logger=mlflow").config)
    monkeypatch.setattr(lightning, "find_spec", lambda name: object())
    (tracker,) = build_run(described(*SMALL, "logger=mlflow").config).trackers
    assert isinstance(tracker, LightningTracker)
