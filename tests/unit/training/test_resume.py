"""A run that is killed by SIGKILL; the three-fold form is in tests/slow."""

import random
from pathlib import Path

from gated_runs import Gate
from metaloop.cli.main import main
from small_runs import killed, lines_reach, outcome, words

LONG = ("trainer.max_steps=40", "validation.every=7", "model._target_=small_runs.Dropping")


def test_a_run_killed_at_a_random_moment_goes_on_to_the_same_end(tmp_path: Path) -> None:
    assert main(words(tmp_path / "whole", *LONG)) == 0
    directory = tmp_path / "killed"
    directory.mkdir()
    moment = random.SystemRandom().randrange(1, 30)
    with Gate(tmp_path / "gate", step=35) as gate:
        killed(directory, lines_reach(directory / "metrics.csv", moment), words(directory, *LONG, gate.override))
        assert not (directory / "record.json").exists()
        gate.open()
        assert main(["train", f"resume={directory}"]) == 0
    assert outcome(directory) == outcome(tmp_path / "whole"), f"killed at row {moment}"
