"""Trackers: what they write is read back with other means than they wrote it."""

import csv
import json
import logging
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metaloop.config.build import build_run
from metaloop.errors import UserError
from metaloop.tracking import lightning as lightning_tracker
from metaloop.tracking.loggers import CsvTracker, LightningTracker, RunInfo, TensorBoardTracker, Tracker, WandbTracker
from small_runs import SMALL, described
from wandb_files import ACCOUNT, folders, history, of_kind, records, summary

RUN_TAG = "algorithm:maml"
RECORD = {
    "training": {"steps": 30, "tasks_per_second": 812.5, "over_tasks": "loop"},
    "test": {
        "metric": "accuracy",
        "mean": 0.9,
        "half_width": 0.01,
        "episodes": 600,
        "others": {
            "loss": {"mean": 0.25, "half_width": 0.02},
            "calibration_error": {"mean": 0.125, "half_width": None},
        },
        "curve": [{"step": 0, "mean": 0.25, "half_width": 0.02}, {"step": 5, "mean": 0.9, "half_width": None}],
    },
}


def info(directory: Path, resumed_step: int = 0) -> RunInfo:
    config = {"seed": 3, "trainer": {"max_steps": 30}, "paper": None}
    return RunInfo(directory, "maml_glyphs", "sweep_7", "train", ("algorithm:maml",), config, resumed_step)


def train(tracker: Tracker, directory: Path, first: int, last: int, resumed_step: int = 0) -> None:
    """Rows every 5 steps, a validation row every 10."""
    tracker.start(info(directory, resumed_step))
    for step in range(first, last + 1, 5):
        tracker.log({"train/loss": 1 / step, "train/score": 0.1 * step}, step)
        if step % 10 == 0:
            tracker.log({"validation/score": 0.5 + step / 1000}, step)
    tracker.finish(None, "finished")


def test_csv_columns_grow_with_the_metrics(tmp_path: Path) -> None:
    tracker = CsvTracker()
    tracker.start(info(tmp_path))
    tracker.log({"a": 0.1}, 1)
    tracker.log({"b": float("nan"), "a": 1 / 3}, 2)
    tracker.log({"c, d": 7}, 3)
    with (tmp_path / "metrics.csv").open(newline="") as file:  # before finish: every row is flushed
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "1", "a": "0.1", "b": "", "c, d": ""},
        {"step": "2", "a": repr(1 / 3), "b": "nan", "c, d": ""},
        {"step": "3", "a": "", "b": "", "c, d": "7.0"},
    ]
    tracker.finish(None, "failed")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("killed_at", [12, 19, 30])
@pytest.mark.parametrize("torn", ["", "35", "35,0.02857142", "35,0.02857142857142857,3.5,"])
def test_a_resumed_csv_equals_an_undisturbed_one(killed_at: int, torn: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    train(CsvTracker(), tmp_path / "whole", 5, 40)
    train(CsvTracker(), tmp_path / "killed", 5, killed_at)
    path = tmp_path / "killed" / "metrics.csv"
    path.write_text(path.read_text() + torn)
    train(CsvTracker(), tmp_path / "killed", 15, 40, resumed_step=10)
    assert path.read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


def test_a_run_that_starts_over_starts_an_empty_csv(tmp_path: Path) -> None:
    train(CsvTracker(), tmp_path, 5, 20)
    train(CsvTracker(), tmp_path, 5, 10)
    assert [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()] == [
        "step",
        "5",
        "10",
        "10",
    ]


@pytest.mark.parametrize("line", ["5", "x,1.0", ""])
def test_a_damaged_csv_is_not_gone_on_with(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(f"step,a\n{line}\n10,2.0\n")
    with pytest.raises(UserError, match="line 2 is damaged"):
        CsvTracker().start(info(tmp_path, 10))


def scalars(directory: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_keeps_our_steps_and_forgets_what_a_resumed_run_logs_again(tmp_path: Path) -> None:
    train(TensorBoardTracker(), tmp_path, 5, 20)
    tracker = TensorBoardTracker()
    tracker.start(info(tmp_path, resumed_step=10))
    tracker.log({"train/loss": 7.0}, 15)
    tracker.finish(RECORD, "finished")
    assert scalars(tmp_path, "train/loss") == [(5, pytest.approx(0.2)), (10, pytest.approx(0.1)), (15, 7.0)]
    assert scalars(tmp_path, "test/accuracy") == [(30, pytest.approx(0.9))]
    assert scalars(tmp_path, "test/calibration_error") == [(30, 0.125)]


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No API key, no mode, no settings of whoever runs the tests."""
    for name in ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_account")
def test_wandb_offline_files_hold_config_group_history_and_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wandb_id.txt").write_text("0123abcd")  # as a resumed run finds it
    (tmp_path / "report").mkdir()
    Image.new("RGB", (3, 2), "red").save(tmp_path / "report" / "learning.png")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    tracker = WandbTracker(project="ours", tags=["mine"], checkpoint=True)
    tracker.start(info(tmp_path, resumed_step=10))
    tracker.log({"train/loss": 0.5}, 15)
    tracker.log({"train/loss": 0.25}, 20)
    tracker.log({"validation/score": 0.75}, 20)
    tracker.finish(RECORD, "finished")
    assert wandb.run is None
    assert capfd.readouterr() == ("", "")
    (folder,) = folders(tmp_path)
    found = records(folder)
    (run,) = of_kind(found, "run")
    named = {"run_id": "0123abcd", "project": "ours", "run_group": "sweep_7", "job_type": "train", "tags": [RUN_TAG, "mine"]}
    assert run | named | {"display_name": "maml_glyphs"} == run
    config = run["config"]["update"]
    assert config | info(tmp_path).config == config
    *rows, shown = history(found)
    assert rows == [{"outer_step": 15, "train/loss": 0.5}, {"outer_step": 20, "train/loss": 0.25, "validation/score": 0.75}]
    assert shown["outer_step"] == 30
    assert (folder / "files" / shown["report/learning.path"]).read_bytes() == (tmp_path / "report/learning.png").read_bytes()
    table = json.loads((folder / "files" / shown["test/adaptation.path"]).read_text())
    assert (table["columns"], table["data"]) == (["step", "mean", "half_width"], [[0, 0.25, 0.02], [5, 0.9, None]])
    files = {
        one["path"]: Path(one["local_path"]) for kept in of_kind(found, "artifact") for one in kept["manifest"]["contents"]
    }
    assert files["best.ckpt"].read_bytes() == b"weights"
    assert all(path.is_relative_to(tmp_path.resolve()) and "share" not in path.parts for path in files.values())
    axes = {metric.get("glob_name"): metric.get("step_metric") for metric in of_kind(found, "metric")}
    assert axes["*"] == "outer_step"
    expected = {
        "test/accuracy": 0.9,
        "test/accuracy_half_width": 0.01,
        "test/loss": 0.25,
        "test/calibration_error": 0.125,
        "test/episodes": 600,
        "training/tasks_per_second": 812.5,
        "status": "finished",
    }
    assert summary(found) | expected == summary(found)
    assert of_kind(found, "exit")[0]["exit_code"] == 0


@pytest.mark.usefixtures("no_account")
def test_wandb_has_every_row_of_a_resumed_run_once(tmp_path: Path) -> None:
    """Stopped at 25, after the checkpoint at 10; the file that it left lacks the row of step 5."""
    tracker = WandbTracker(group="named")
    tracker.start(info(tmp_path))
    for step in (10, 15, 20):
        tracker.log({"train/loss": step}, step)
    tracker.log({"validation/score": 0.5}, 10)
    tracker.finish(None, "failed")
    wandb.teardown()
    (tmp_path / "metrics.csv").write_text("step,train/loss,validation/score\n5,5.0,\n10,10.0,\n10,,0.5\n15,-1.0,\n20,-1")
    tracker = WandbTracker(group="named")
    tracker.start(info(tmp_path, resumed_step=10))
    for step in (15, 20, 25):
        tracker.log({"train/loss": -step}, step)
    tracker.log({"validation/score": 0.75}, 20)
    tracker.finish(None, "finished")
    found = [records(folder) for folder in folders(tmp_path)]
    runs = [run for each in found for run in of_kind(each, "run")]
    assert [run["run_id"] for run in runs] == [(tmp_path / "wandb_id.txt").read_text()] * 2
    assert {run["run_group"] for run in runs} == {"named"}
    assert [of_kind(each, "exit")[0].get("exit_code", 0) for each in found] == [1, 0]
    values = [(row["outer_step"], name, row[name]) for each in found for row in history(each) for name in row]
    assert sorted(value for value in values if value[1] == "train/loss") == [
        (5, "train/loss", 5),
        (10, "train/loss", 10),
        (15, "train/loss", 15),  # as they were first measured
        (20, "train/loss", 20),
        (25, "train/loss", -25),
    ]
    assert sorted(value[::2] for value in values if value[1] == "validation/score") == [(10, 0.5), (20, 0.75)]


class Spy:
    """In W&B's place; fails where told, or hangs there until it is let go."""

    def __init__(self, where: str, hangs: bool = False) -> None:
        self.where, self.hangs = where, hangs
        self.let_go = threading.Event()
        self.finished: list[int] = []
        self.logged: list[Any] = []
        self.summary: dict[str, Any] = {}
        self.modes: list[str | None] = []

    def init(self, mode: str | None, **_: Any) -> "Spy":
        self.modes.append(mode)
        return self._maybe("init")

    def _maybe(self, where: str) -> "Spy":
        if where == self.where and self.hangs:
            self.let_go.wait()
        elif where == self.where:
            raise ConnectionError("no route to host")
        return self

    def define_metric(self, *_: Any, **__: Any) -> None:
        self._maybe("define_metric")

    def log(self, row: Any) -> None:
        self._maybe("log")
        self.logged.append(row)

    def finish(self, exit_code: int) -> None:
        self._maybe("finish")
        self.finished.append(exit_code)


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize("fails", ["init", "define_metric", "log", "finish"])
def test_a_fault_of_wandb_is_said_once_and_ends_nothing(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spy = Spy(fails)
    monkeypatch.setattr(wandb, "init", spy.init)
    with caplog.at_level(logging.WARNING):
        train(WandbTracker(), tmp_path, 5, 20)
    assert len(caplog.messages) == 1
    assert "no route to host" in caplog.messages[0]
    assert spy.finished == ([0] if fails == "log" else [])


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize("hangs", ["init", "log", "finish"])
def test_a_wandb_that_hangs_holds_nothing(
    hangs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spy = Spy(hangs, hangs=True)
    monkeypatch.setattr(wandb, "init", spy.init)
    with caplog.at_level(logging.WARNING):
        train(WandbTracker(wait=0.05), tmp_path, 5, 20)
    spy.let_go.set()
    assert ["within 0.05 s" in message for message in caplog.messages] == [True]


@pytest.mark.usefixtures("no_account")
def test_wandb_goes_online_where_there_is_a_key_or_it_was_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy("")
    monkeypatch.setattr(wandb, "init", spy.init)

    def mode(offline: bool | None = None) -> str | None:
        train(WandbTracker(offline=offline), tmp_path, 5, 5)
        return spy.modes[-1]

    assert mode() == "offline"
    assert mode(offline=False) == "online"
    (tmp_path / "no-netrc").write_text("machine api.elsewhere.org login user password x\n")
    assert mode() == "offline"
    (tmp_path / "no-netrc").write_text("machine api.wandb.ai login user password x\n")
    assert mode() is None
    assert mode(offline=True) == "offline"
    (tmp_path / "no-netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert mode() is None
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode() is None
    spy.summary["outer_step"] = 5  # what a server tells of a run that is resumed
    before = len(spy.logged)
    train(WandbTracker(), tmp_path, 5, 10)
    assert [row["outer_step"] for row in spy.logged[before:]] == [10]


@pytest.mark.parametrize(
    ("arguments", "reason"), [({"tags": ["x" * 65]}, "has 65 characters"), ({"tags": [""]}, "1 to 64"), ({"wait": 0}, "wait=0")]
)
def test_what_wandb_would_refuse_is_refused_at_once(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        WandbTracker(**arguments)


DISTURBED = """
import os, signal, sys, time
from pathlib import Path
from metaloop.tracking.loggers import RunInfo, WandbTracker
from wandb.sdk import wandb_setup

tracker = WandbTracker(wait=1)
tracker.start(RunInfo(Path(sys.argv[1]), "name", None, "train", (), {}, 0))
deadline = time.monotonic() + 60
while tracker._run is None:
    assert time.monotonic() < deadline
    time.sleep(0.01)
os.kill(wandb_setup.singleton()._connection._proc._process.pid, getattr(signal, sys.argv[2]))
began = time.perf_counter()
for step in range(1, 3001):
    tracker.log({"a": 1.0, "b": 2.0}, step)
print((time.perf_counter() - began) / 3000)
tracker.finish(None, "finished")
"""


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize("by", ["SIGKILL", "SIGSTOP"])
def test_a_process_ends_whatever_becomes_of_wandbs_service(by: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", DISTURBED, str(tmp_path), by]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.001  # seconds that a row costs the training
    assert ("within 1 s" if by == "SIGSTOP" else "failed; the training goes on") in done.stderr
    assert "Traceback" not in done.stderr


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
    assert rows[-1]["test/accuracy"] == "0.9"
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

    monkeypatch.setattr(lightning_tracker, "_PAUSES", (0.0, 0.0))
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

    monkeypatch.setattr(lightning_tracker, "_PAUSES", (0.0,))
    train(LightningTracker(making), tmp_path, 5, 20)
    assert (tmp_path / "theirs" / "name" / "version_7" / "metrics.csv").read_text().count(
        "\n"
    ) == 7  # header, four rows and two


def test_a_logger_without_its_package_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_tracker, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'metaloop\[mlflow\]'"):
        build_run(described(*SMALL, "logger=mlflow")["config"])
    monkeypatch.setattr(lightning_tracker, "find_spec", lambda name: object())
    (tracker,) = build_run(described(*SMALL, "logger=mlflow")["config"]).trackers
    assert isinstance(tracker, LightningTracker)
