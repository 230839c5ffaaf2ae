"""Runs of control that are killed by SIGKILL half-way end as ones that never were, bit for bit."""

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


POLICIES = (
    "train", "algorithm.steps=1", "algorithm.episodes=4", "dataset=point_navigation", "dataset.environment.horizon=10",
    "dataset.score=mean", "model=tanh_mlp", "model.hidden=[6]", "episode=trial", "episode.queries=3", "outer.meta_batch=4",
    "trainer.max_steps=60", "log_every=1", "validation.every=5", "validation.episodes=8", "evaluation.episodes=8",
    "name=killed", *QUIET,
)  # fmt: skip
TRPO = ("algorithm=maml_control", "algorithm/outer_update=trpo", "outer=whole_step")
PROMP = ("algorithm=promp", "algorithm.outer_update.passes=4")


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["gru", "transformer"])
def test_a_kill_half_way_leaves_no_trace(memory: str, tmp_path: Path) -> None:
    """Trials still grow when the run is killed, and the policy that plays is older than the checkpoint."""
    sizes = ["algorithm.memory.hidden=8", "algorithm.memory.heads=2"] if memory == "transformer" else []
    check([*RUN, f"algorithm/memory={memory}", *sizes], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", [TRPO, PROMP], ids=["trpo", "promp"])
def test_a_kill_half_way_leaves_no_trace_in_policies_that_adapt(words: tuple[str, ...], tmp_path: Path) -> None:
    """With ProMP, amid the passes over one meta-batch: checkpoints are at multiples of five."""
    check([*POLICIES, *words], tmp_path)


def check(argv: list[str], place: Path) -> None:
    """Run whole; run, kill, and resume; compare."""
    assert main([*argv, f"hydra.run.dir={place / 'whole'}"]) == 0
    directory = place / "killed"
    directory.mkdir()
    with Gate(place / "gate", step=55) as gate:
        command = [*argv, f"hydra.run.dir={directory}", gate.override]
        killed(directory, lines_reach(directory / "metrics.csv", 30), command)
        gate.open()
        assert main(["train", f"resume={directory}"]) == 0
    assert outcome(directory) == outcome(place / "whole")
