"""A run that is killed by SIGKILL; the three-fold form is in tests/slow."""

import random
from pathlib import Path

import pytest

from gated_runs import Gate
from metaloop.cli.main import main
from small_runs import TABLES, killed, lines_reach, outcome, words

LONG = ("trainer.max_steps=40", "validation.every=7")
RUNS = {"pictures": ("model._target_=small_runs.Dropping",), "tables": TABLES}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_a_random_moment_goes_on_to_the_same_end(name: str, tmp_path: Path) -> None:
    long = (*LONG, *RUNS[name])
    assert main(words(tmp_path / "whole", *long)) == 0
    directory = tmp_path / "killed"
    directory.mkdir()
    moment = random.SystemRandom().randrange(1, 30)
    with Gate(tmp_path / "gate", step=35) as gate:
        killed(directory, lines_reach(directory / "metrics.csv", moment), words(directory, *long, gate.override))
        assert not (directory / "record.json").exists()
        gate.open()
        assert main(["train", f"resume={directory}"]) == 0
    assert outcome(directory) == outcome(tmp_path / "whole"), f"killed at row {moment}"
