"""Runs with a budget of processor time: what they keep, when they stop, and their evaluation at a mark."""

import json
from pathlib import Path

import pytest
import torch

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.evaluation.studies import evaluate_settings
from metaloop.training.cpu_budget import CpuBudget
from small_runs import SMALL_CONF, trained, words

BUDGET = ("callbacks=cpu_budget", "callbacks.cpu_budget.minutes=[0.00001,0.00002]", "trainer.max_steps=1000")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("budget") / "run"
    assert main(words(directory, *BUDGET)) == 0
    return directory


def test_it_stops_at_the_last_mark_and_keeps_the_best_checkpoint_of_each(run: Path) -> None:
    record = json.loads((run / "record.json").read_text())
    assert record["training"]["steps"] < 1000
    assert record["training"]["cpu_seconds"] >= 60 * 0.00002
    kept = sorted(path.name for path in (run / "checkpoints").glob("minutes-*.ckpt"))
    assert kept == ["minutes-1e-05.ckpt", "minutes-2e-05.ckpt"]
    states = [torch.load(run / "checkpoints" / name, weights_only=True) for name in ("best.ckpt", kept[-1])]
    assert states[0]["global_step"] == states[1]["global_step"]


def test_a_spent_budget_trains_no_further(run: Path) -> None:
    before = json.loads((run / "record.json").read_text())["training"]["steps"]
    (run / "record.json").unlink()
    record = trained(run, *BUDGET, resume=True)
    assert record["training"]["steps"] == before


def test_a_mark_is_evaluated_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"run={run}", "checkpoint=minutes-1e-05.ckpt", "--config-dir", str(SMALL_CONF)]) == 0
    (target,) = (run / "evaluations").glob("*_minutes-1e-05")
    assert json.loads((target / "record.json").read_text())["overrides"] == ["checkpoint=minutes-1e-05.ckpt"]
    capsys.readouterr()
    assert main(["evaluate", f"run={run}", "checkpoint=minutes-7.ckpt", "--config-dir", str(SMALL_CONF)]) == 2
    assert "kept best.ckpt, last.ckpt, minutes-1e-05.ckpt" in capsys.readouterr().err


def test_a_pattern_stands_for_all_marks_and_nothing_is_evaluated_twice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pattern = [{"checkpoint": "minutes-*.ckpt"}]
    first = [settings for settings, _ in evaluate_settings(run, pattern)]
    assert first == [{"checkpoint": "minutes-1e-05.ckpt"}, {"checkpoint": "minutes-2e-05.ckpt"}]
    capsys.readouterr()
    list(evaluate_settings(run, pattern))
    assert "evaluate" not in capsys.readouterr().out


@pytest.mark.parametrize("minutes", [[], [0], [2, 1], [1, 1]])
def test_marks_ascend_from_above_zero(minutes: list[float]) -> None:
    with pytest.raises(UserError, match="ascending minutes above 0"):
        CpuBudget(minutes)
