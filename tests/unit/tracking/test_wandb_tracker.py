"""The W&B tracker: what W&B's own reader finds in its offline files, and that no fault of W&B reaches the training."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from metaloop.errors import UserError
from metaloop.tracking.wandb import WandbTracker
from tracked_runs import RECORD, info, train
from wandb_files import read, without_account

KEY = "x" * 40


@pytest.fixture(autouse=True)
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_account(tmp_path, monkeypatch)


def test_offline_files_hold_config_group_history_and_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wandb_id.txt").write_text("0123abcd")  # as a resumed run finds it
    (tmp_path / "report").mkdir()
    Image.new("RGB", (3, 2), "red").save(tmp_path / "report" / "learning.png")
    Image.new("RGB", (3, 2), "red").save(tmp_path / "report" / "trajectories.gif")
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
    folder, records = read(tmp_path)
    (run,) = records["run"]
    expected = {"run_id": "0123abcd", "project": "ours", "run_group": "sweep_7", "job_type": "train"}
    assert run | expected | {"display_name": "maml_glyphs", "tags": ["algorithm:maml", "mine"]} == run
    config = run["config"]["update"]
    assert config | info(tmp_path).config | {"choices": {"algorithm": "maml"}} == config
    *rows, shown = records["history"]
    assert rows == [{"_step": 15, "train/loss": 0.5}, {"_step": 20, "train/loss": 0.25, "validation/score": 0.75}]
    assert shown["_step"] == 30
    assert (folder / "files" / shown["report/learning.path"]).read_bytes() == (tmp_path / "report/learning.png").read_bytes()
    moving = folder / "files" / shown["report/trajectories_moving.path"]
    assert moving.read_bytes() == (tmp_path / "report/trajectories.gif").read_bytes()
    table = json.loads((folder / "files" / shown["test/adaptation.path"]).read_text())
    assert (table["columns"], table["data"]) == (["step", "mean", "half_width"], [[0, 0.25, 0.02], [5, 0.9, None]])
    files = {one["path"]: Path(one["local_path"]) for kept in records["artifact"] for one in kept["manifest"]["contents"]}
    assert files["best.ckpt"].read_bytes() == b"weights"
    assert all(path.is_relative_to(tmp_path.resolve()) and "share" not in path.parts for path in files.values())
    numbers = {
        "test/score": 0.9,
        "test/score_half_width": 0.01,
        "test/calibration_error": 0.125,
        "training/tasks_per_second": 812.5,
    }
    (summary,) = records["summary"]
    assert summary | numbers | {"test/episodes": 600, "status": "finished"} == summary
    assert records["exit"][0]["exit_code"] == 0


@pytest.mark.parametrize("sent", [False, True])
def test_every_row_of_a_resumed_run_is_there_once(sent: bool, tmp_path: Path) -> None:
    """Stopped at 20, after the checkpoint at 10; perhaps W&B's server got what was there."""
    tracker = WandbTracker(group="named")
    tracker.start(info(tmp_path))
    for step in (5, 10, 15, 20):
        tracker.log({"train/loss": step}, step)
    tracker.finish(None, "failed")
    folder, before = read(tmp_path)
    if sent:
        next(folder.glob("*.wandb")).with_suffix(".wandb.synced").touch()
    (tmp_path / "metrics.csv").write_text("step,train/loss,validation/score\n5,5.0,\n10,10.0,\n10,,0.5\n15,-1.0,\n20,-1")
    tracker = WandbTracker(group="named")
    tracker.start(info(tmp_path, resumed_step=10))
    for step in (15, 20, 25):
        tracker.log({"train/loss": -step}, step)
    tracker.finish(None, "finished")
    _, after = read(tmp_path)
    assert before["run"][0]["run_id"] == after["run"][0]["run_id"] == (tmp_path / "wandb_id.txt").read_text()
    assert before["run"][0]["run_group"] == after["run"][0]["run_group"] == "named"
    assert [records["exit"][0].get("exit_code", 0) for records in (before, after)] == [1, 0]
    kept = [] if sent else [{"_step": 5, "train/loss": 5}, {"_step": 10, "train/loss": 10, "validation/score": 0.5}]
    again = [] if sent else [{"_step": step, "train/loss": -step} for step in (15, 20)]
    assert after["history"] == [*kept, *again, {"_step": 25, "train/loss": -25}]


class Spy:
    """In W&B's place; fails where told, or hangs there until it is let go."""

    def __init__(self, where: str = "", hangs: bool = False) -> None:
        self.where, self.hangs = where, hangs
        self.let_go = threading.Event()
        self.finished: list[int] = []
        self.steps: list[int] = []
        self.summary: dict[str, Any] = {}
        self.modes: list[str | None] = []
        self.step = 0

    def init(self, mode: str | None, **_: Any) -> "Spy":
        self.modes.append(mode)
        self._perhaps("init")
        return self

    def _perhaps(self, where: str) -> None:
        if where == self.where and self.hangs:
            self.let_go.wait()
        elif where == self.where:
            raise ConnectionError("no route to host")

    def log(self, row: Any, step: int) -> None:
        self._perhaps("log")
        self.steps.append(step)

    def finish(self, exit_code: int) -> None:
        self._perhaps("finish")
        self.finished.append(exit_code)


@pytest.mark.parametrize("where", ["init", "log", "finish"])
@pytest.mark.parametrize("hangs", [False, True])
def test_a_fault_of_wandb_is_one_warning_and_ends_nothing(
    where: str, hangs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spy = Spy(where, hangs)
    monkeypatch.setattr(wandb, "init", spy.init)
    with caplog.at_level(logging.WARNING):
        train(WandbTracker(wait=0.05 if hangs else 60), tmp_path, 5, 20)
    spy.let_go.set()
    (message,) = caplog.messages
    assert ("within 0.05 s" if hangs else "no route to host") in message
    assert hangs or spy.finished == ([0] if where == "log" else [])


def test_it_goes_online_where_there_is_a_key_or_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    monkeypatch.setattr(wandb, "init", spy.init)

    def mode(offline: bool | None = None) -> str | None:
        train(WandbTracker(offline=offline), tmp_path, 5, 5)
        return spy.modes[-1]

    assert mode() == "offline"
    assert mode(offline=False) == "online"
    (tmp_path / "no-netrc").write_text(f"machine api.elsewhere.org login user password {KEY}\n")
    assert mode() == "offline"
    (tmp_path / "no-netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert mode() is None
    assert mode(offline=True) == "offline"
    (tmp_path / "no-netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert mode() is None
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode() is None


def test_rows_that_the_server_has_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy()
    spy.step = 6
    monkeypatch.setattr(wandb, "init", spy.init)
    train(WandbTracker(), tmp_path, 5, 10)
    assert set(spy.steps) == {10}


@pytest.mark.parametrize(
    ("arguments", "reason"), [({"tags": ["x" * 65]}, "has 65 characters"), ({"tags": [""]}, "1 to 64"), ({"wait": 0}, "wait=0")]
)
def test_what_wandb_would_refuse_is_refused_at_once(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        WandbTracker(**arguments)


DISTURBED = """
import os, signal, sys, time
from pathlib import Path
from metaloop.tracking.tracker import RunInfo
from metaloop.tracking.wandb import WandbTracker
from wandb.sdk import wandb_setup

tracker = WandbTracker(wait=1)
tracker.start(RunInfo(Path(sys.argv[1]), "name", None, {}, {}, 0))
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


@pytest.mark.parametrize("by", ["SIGKILL", "SIGSTOP"])
def test_a_process_ends_whatever_becomes_of_wandbs_service(by: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", DISTURBED, str(tmp_path), by]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.001  # seconds that a row costs the training
    assert ("within 1 s" if by == "SIGSTOP" else "failed; the training goes on") in done.stderr
    assert "Traceback" not in done.stderr
