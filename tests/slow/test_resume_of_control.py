"""A run of RL² that is killed by SIGKILL half-way ends as one that never was, bit for bit."""

from pathlib import Path

import pytest

from gated_runs import Gate
from metaloop.cli.main import main
from small_runs import QUIET, killed, lines_reach, outcome

RUN = (
    "train", "algorithm=rl2", "algorithm.renew=3", "algorithm.shortest=2", "algorithm.growing=40", "algorithm.memory.hidden=6",
    "dataset=bernoulli_bandits", "model=cells", "episode=trial", "outer.meta_batch=8", "trainer.max_steps=60", "log_every=1",
    "validation.every=5", "validation.episodes=8", "evaluation.episodes=8", "name=killed", *QUIET,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["gru", "transformer"])
def test_a_kill_half_way_leaves_no_trace(memory: str, tmp_path: Path) -> None:
    """Trials still grow when the run is killed, and the policy that plays is older than the checkpoint."""
    sizes = ["algorithm.memory.hidden=8", "algorithm.memory.heads=2"] if memory == "transformer" else []
    argv = [*RUN, f"algorithm/memory={memory}", *sizes]
    assert main([*argv, f"hydra.run.dir={tmp_path / 'whole'}"]) == 0
    directory = tmp_path / "killed"
    directory.mkdir()
    with Gate(tmp_path / "gate", step=55) as gate:
        command = [*argv, f"hydra.run.dir={directory}", gate.override]
        killed(directory, lines_reach(directory / "metrics.csv", 30), command)
        gate.open()
        assert main(["train", f"resume={directory}"]) == 0
    assert outcome(directory) == outcome(tmp_path / "whole")
