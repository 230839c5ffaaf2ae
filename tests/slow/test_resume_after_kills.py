"""A run that is killed by SIGKILL ends as one that never was, bit for bit."""

import random
from pathlib import Path

import pytest

from gated_runs import Gate
from metaloop.cli.main import main
from small_runs import QUIET, killed, lines_reach, outcome, words

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


@pytest.mark.slow
def test_kills_of_a_run_in_compiled_stretches_leave_no_trace(tmp_path: Path) -> None:
    argv = ["train", "experiment=finn2017_maml_sinusoid_5shot", "stretches=true", "trainer.max_steps=3000", "log_every=20"]
    argv += ["validation.every=300", "validation.episodes=20", "evaluation.episodes=20", *QUIET]
    assert main([*argv, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    assert "one compiled function" in (tmp_path / "whole" / "record.json").read_text()
    directory = tmp_path / "killed"
    directory.mkdir()
    with Gate(tmp_path / "gate", step=2980) as gate:
        command = [*argv, f"hydra.run.dir={directory}", gate.override]
        for rows_of_metrics in (31, 77, 120):
            killed(directory, lines_reach(directory / "metrics.csv", rows_of_metrics), command)
            command = ["train", f"resume={directory}"]
        gate.open()
        assert main(command) == 0
    assert outcome(directory) == outcome(tmp_path / "whole")
