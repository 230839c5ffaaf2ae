"""A run that is killed by SIGKILL; the three-fold form is in tests/slow."""

import random
from pathlib import Path

from metaloop.cli.main import main
from small_runs import killed, lines_reach, outcome, words

LONG = ("trainer.max_steps=120", "validation.every=7", "model._target_=small_runs.Dropping")


def test_a_run_killed_at_a_random_moment_goes_on_to_the_same_end(tmp_path: Path) -> None:
    assert main(words(tmp_path / "whole", *LONG)) == 0
    directory = tmp_path / "killed"
    directory.mkdir()
    moment = random.SystemRandom().randrange(1, 90)
    killed(directory, lines_reach(directory / "metrics.csv", moment), words(directory, *LONG))
    assert not (directory / "record.json").exists()
    assert main(["train", f"resume={directory}"]) == 0
    assert outcome(directory) == outcome(tmp_path / "whole"), f"killed at row {moment}"
