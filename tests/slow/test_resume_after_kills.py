"""A run that is killed by SIGKILL ends as one that never was, bit for bit."""

import random
from pathlib import Path

import pytest

from gated_runs import Gate
from metaloop.cli.main import main
from small_runs import killed, lines_reach, outcome, words

LONG = ("trainer.max_steps=400", "validation.every=20", "outer=adam_cosine", "model._target_=small_runs.Dropping")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_kills_at_random_moments_leave_no_trace(seed: int, tmp_path: Path) -> None:
    assert main(words(tmp_path / "whole", *LONG)) == 0
    directory = tmp_path / "killed"
    directory.mkdir()
    moments = sorted(random.Random(seed).sample(range(1, 390), 3))
    with Gate(tmp_path / "gate", step=395) as gate:
        argv = words(directory, *LONG, gate.override)
        for rows_of_metrics in moments:
            killed(directory, lines_reach(directory / "metrics.csv", rows_of_metrics), argv)
            argv = ["train", f"resume={directory}"]
        gate.open()
        assert main(argv) == 0
    assert outcome(directory) == outcome(tmp_path / "whole")
