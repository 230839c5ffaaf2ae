"""Trackers: what they write is read back with other means than they wrote it."""

import csv
import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from metaloop.errors import UserError
from metaloop.outer.loggers import CsvTracker, RunInfo, TensorBoardTracker, Tracker, WandbTracker

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


def records(directory: Path) -> Iterator[Record]:
    """Every record of the one offline W&B run: a log of blocks of 32 KiB after a header of 7 bytes."""
    wandb.teardown()  # until its service has ended the file may be incomplete
    (path,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = 7, b""
    while place + 7 <= len(data):
        if 2**15 - place % 2**15 < 7:  # the rest of a block is too short for a record's header
            place += 2**15 - place % 2**15
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def items(found: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found}


@pytest.fixture
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No API key, no mode, no settings of whoever runs the tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_RUN_GROUP", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_account")
def test_wandb_offline_files_hold_config_group_history_and_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wandb_id.txt").write_text("0123abcd")  # as a resumed run finds it
    tracker = WandbTracker(project="ours", tags=["mine"])
    tracker.start(info(tmp_path, resumed_step=10))
    tracker.log({"train/loss": 0.5}, 15)
    tracker.log({"train/loss": 0.25, "validation/score": 0.75}, 20)
    tracker.finish(RECORD, "finished")
    found = list(records(tmp_path))
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.run_id, run.project, run.run_group, run.job_type) == ("0123abcd", "ours", "sweep_7", "train")
    assert run.display_name == "maml_glyphs"
    assert list(run.tags) == ["algorithm:maml", "mine"]
    config = items(run.config.update)
    assert {name: config[name] for name in info(tmp_path).config} == info(tmp_path).config
    history = [items(record.history.item) for record in found if record.HasField("history")]
    assert [(row["outer_step"], row["train/loss"]) for row in history] == [(15, 0.5), (20, 0.25)]
    assert history[1]["validation/score"] == 0.75
    axes = {record.metric.glob_name: record.metric.step_metric for record in found if record.HasField("metric")}
    assert axes["*"] == "outer_step"
    summary = {}
    for record in found:
        summary |= items(record.summary.update)
    expected = {
        "test/accuracy": 0.9,
        "test/accuracy_half_width": 0.01,
        "test/loss": 0.25,
        "test/calibration_error": 0.125,
        "test/episodes": 600,
        "training/tasks_per_second": 812.5,
        "status": "finished",
    }
    assert {name: summary[name] for name in expected} == expected
    assert next(record.exit.exit_code for record in found if record.HasField("exit")) == 0
    assert wandb.run is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_account")
def test_wandb_ends_as_failed_where_the_run_did(tmp_path: Path) -> None:
    tracker = WandbTracker(group="named")
    tracker.start(info(tmp_path))
    tracker.finish(None, "failed")
    found = list(records(tmp_path))
    assert next(record.exit.exit_code for record in found if record.HasField("exit")) == 1
    run = next(record.run for record in found if record.HasField("run"))
    assert run.run_group == "named"
    assert run.run_id == (tmp_path / "wandb_id.txt").read_text()


class Spy:
    """In W&B's place; fails where told."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.finished: list[int] = []
        self.summary: dict[str, Any] = {}
        self.modes: list[str | None] = []

    def init(self, mode: str | None, **_: Any) -> "Spy":
        self.modes.append(mode)
        return self._maybe("init")

    def _maybe(self, where: str) -> "Spy":
        if where == self.fails:
            raise ConnectionError("no route to host")
        return self

    def define_metric(self, *_: Any, **__: Any) -> None:
        self._maybe("define_metric")

    def log(self, _: Any) -> None:
        self._maybe("log")

    def finish(self, exit_code: int) -> None:
        self.finished.append(exit_code)
        self._maybe("finish")


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
    assert spy.finished == ([] if fails == "init" else [0])


@pytest.mark.usefixtures("no_account")
def test_wandb_goes_online_where_there_is_a_key_or_it_was_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy("")
    monkeypatch.setattr(wandb, "init", spy.init)

    def mode(offline: bool | None = None) -> str | None:
        WandbTracker(offline=offline).start(info(tmp_path))
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


def test_the_logger_group_holds_trackers() -> None:
    import hydra
    from omegaconf import OmegaConf

    from metaloop.configuration import conf_dir

    built = []
    for path in sorted((conf_dir() / "logger").glob("*.yaml")):
        node = OmegaConf.load(path)
        assert isinstance(node, dict | type(OmegaConf.create({})))
        built += [hydra.utils.instantiate(tracker) for tracker in node.values()]
    assert [type(tracker) for tracker in built] == [WandbTracker]
