"""W&B offline runs of a sweep, read back by W&B's own reader: complete for every run, also for one that was killed."""

import json
from pathlib import Path
from typing import Any

import pytest

from metaloop.cli.main import main
from metaloop.cli.wandb import sync
from metaloop.sweeps.ledger import Ledger
from small_runs import SMALL, SMALL_CONF, rows
from wandb_files import read, without_account

LEAST = 60  # rows of a big sweep's runs
ASIDE = ("report/", "test/")  # what W&B has beside the rows of metrics.csv
KILLER = "+logger.killer={_target_:small_runs.Killer,seed:0,step:5}"


@pytest.mark.parametrize(("seeds", "steps"), [(2, 8), pytest.param(6, LEAST, marks=pytest.mark.slow)])
def test_a_sweeps_offline_runs_are_complete(
    seeds: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    without_account(tmp_path, monkeypatch)
    own = ["logger=wandb", "logger.wandb.tags=[mine]", "logger.wandb.checkpoint=true", KILLER, f"trainer.max_steps={steps}"]
    small = [word for word in SMALL if not word.startswith("trainer.max_steps")]
    where = ["--config-dir", str(SMALL_CONF), "--jobs", "2", "hydra.sweep.dir=outputs/mine"]
    assert main(["train", "-m", *where, *small, *own, f"seed={','.join(map(str, range(seeds)))}"]) == 0
    jobs = Ledger(Path("outputs/mine")).jobs()
    assert [job.attempts for job in jobs] == [2] + [1] * (seeds - 1)
    for job in jobs:
        check(Path("outputs/mine") / job.directory)
    capsys.readouterr()
    assert sync([Path("outputs")], dry_run=True) == 0
    assert f"{seeds} offline runs, 0 sent already, {seeds} to send" in capsys.readouterr().out


def check(directory: Path) -> None:
    """That W&B's folder of a run holds what its own files hold, also after a kill."""
    record = json.loads((directory / "record.json").read_text())
    folder, records = read(directory)
    (run,) = records["run"]
    assert (run["run_group"], run["display_name"], run["job_type"]) == ("mine", directory.name, "train")
    assert run["run_id"] == (directory / "wandb_id.txt").read_text()
    assert {"mine", "algorithm:maml", "dataset:blobs"} <= set(run["tags"])
    config = run["config"]["update"]
    assert config | json.loads(json.dumps(record["config"])) == config
    assert config["choices"]["algorithm"] == "maml"
    *logged, shown = records["history"]
    shown = logged.pop() | shown if logged and logged[-1]["_step"] == shown["_step"] else shown
    assert cells([*logged, {name: value for name, value in shown.items() if not name.startswith(ASIDE)}]) == cells(
        metrics(directory)
    )
    assert len({row["_step"] for row in records["history"]}) == record["training"]["steps"]
    table = json.loads((folder / "files" / shown["test/adaptation.path"]).read_text())["data"]
    assert table == [[point["step"], point["mean"], point["half_width"]] for point in record["test"]["curve"]]
    for name in ("learning", "adaptation", "episode"):
        sent = folder / "files" / shown[f"report/{name}.path"]
        assert sent.read_bytes() == (directory / "report" / f"{name}.png").read_bytes()
    (summary,) = records["summary"]
    assert (summary["status"], summary["test/score"]) == ("finished", record["test"]["mean"])
    assert summary["training/steps"] == shown["_step"] == record["training"]["steps"]
    assert records["artifact"][-1]["name"].endswith("-best")
    assert [exit.get("exit_code", 0) for exit in records["exit"]] == [0]


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The rows of metrics.csv."""
    return [
        {"_step": int(row.pop("step")), **{name: float(cell) for name, cell in row.items() if cell}}
        for row in rows(directory / "metrics.csv")
    ]


def cells(rows: list[dict[str, Any]]) -> list[tuple[int, str, float]]:
    """Every metric of every row, except the one that depends on the time."""
    aside = ("_step", "train/tasks_per_second")
    return sorted((row["_step"], name, value) for row in rows for name, value in row.items() if name not in aside)
