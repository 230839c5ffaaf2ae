"""W&B offline runs of a sweep, read back by W&B's own reader: complete for every run, also for one that was killed."""

import json
from pathlib import Path
from typing import Any

import pytest

from metaloop.cli.main import main
from metaloop.cli.wandb import sync
from metaloop.sweeps.ledger import Ledger
from small_runs import SMALL, SMALL_CONF, rows
from wandb_files import ACCOUNT, folders, history, of_kind, records, summary

LEAST = 60  # rows of a big sweep's runs
KILLER = "+logger.killer={_target_:small_runs.Killer,seed:0,step:5}"


@pytest.mark.parametrize(("seeds", "steps"), [(2, 8), pytest.param(6, LEAST, marks=pytest.mark.slow)])
def test_a_sweeps_offline_runs_are_complete(
    seeds: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    own = ["logger=wandb", "logger.wandb.tags=[mine]", "logger.wandb.checkpoint=true", KILLER, f"trainer.max_steps={steps}"]
    small = [word for word in SMALL if not word.startswith("trainer.max_steps")]
    where = ["--config-dir", str(SMALL_CONF), "--jobs", "2", "hydra.sweep.dir=outputs/mine"]
    assert main(["train", "-m", *where, *small, *own, f"seed={','.join(map(str, range(seeds)))}"]) == 0
    jobs = Ledger(Path("outputs/mine")).jobs()
    assert [job.attempts for job in jobs] == [2] + [1] * (seeds - 1)
    for job in jobs:
        check(Path("outputs/mine") / job.directory, job.attempts)
    capsys.readouterr()
    assert sync([Path("outputs")], dry_run=True) == 0
    assert f"{seeds} offline runs, 0 sent already, {seeds} to send" in capsys.readouterr().out


def check(directory: Path, starts: int) -> None:
    """That W&B's folders of a run hold what its own files hold."""
    record = json.loads((directory / "record.json").read_text())
    kept = folders(directory)
    assert len(kept) == starts
    found = [records(folder) for folder in kept]
    found = [each for each in found if of_kind(each, "run")]  # W&B writes every 15 seconds, so the killed may hold nothing
    for each in found:
        (run,) = of_kind(each, "run")
        assert (run["run_group"], run["display_name"], run["job_type"]) == ("mine", directory.name, "train")
        assert run["run_id"] == (directory / "wandb_id.txt").read_text()
        assert {"mine", "algorithm:maml", "dataset:blobs"} <= set(run["tags"])
        config = run["config"]["update"]
        assert config | json.loads(json.dumps(record["config"])) == config
    *logged, shown = [row for each in found for row in history(each)]
    assert cells(logged) == cells(metrics(directory))
    assert len({row["outer_step"] for row in logged}) == record["training"]["steps"]
    table = json.loads((kept[-1] / "files" / shown["test/adaptation.path"]).read_text())["data"]
    assert table == [[point["step"], point["mean"], point["half_width"]] for point in record["test"]["curve"]]
    for name in ("learning", "adaptation", "episode"):
        sent = kept[-1] / "files" / shown[f"report/{name}.path"]
        assert sent.read_bytes() == (directory / "report" / f"{name}.png").read_bytes()
    told = summary(found[-1])
    assert (told["status"], told["test/accuracy"]) == ("finished", record["test"]["mean"])
    assert told["training/steps"] == shown["outer_step"] == record["training"]["steps"]
    assert [artifact["name"] for artifact in of_kind(found[-1], "artifact")][-1].endswith("-best")
    assert [exit.get("exit_code", 0) for exit in of_kind(found[-1], "exit")] == [0]


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The rows of metrics.csv."""
    return [
        {"outer_step": int(row.pop("step")), **{name: float(cell) for name, cell in row.items() if cell}}
        for row in rows(directory / "metrics.csv")
    ]


def cells(found: list[dict[str, Any]]) -> list[tuple[int, str, float]]:
    """Every metric of every row, less the one that depends on the time."""
    aside = ("outer_step", "train/tasks_per_second")
    return sorted((row["outer_step"], name, value) for row in found for name, value in row.items() if name not in aside)
