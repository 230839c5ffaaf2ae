"""Two ranks that share the trials of a meta-batch against one that plays them all."""

from pathlib import Path

from metaloop.training.processes.ranks import launch
from small_runs import distance_of_parameters, trained_all

SMALL = (
    "name=small", "algorithm=rl2", "algorithm.memory.hidden=6", "algorithm.renew=2", "dataset=tabular_mdps",
    "dataset.environment.states=3", "dataset.environment.horizon=3", "model=mlp", "model.hidden=[5]", "episode=trial",
    "episode.queries=2", "outer.meta_batch=4", "trainer.max_steps=4", "validation.every=2", "validation.episodes=5",
    "evaluation.episodes=5", "evaluation.batch=4",
)  # fmt: skip


def test_two_ranks_reach_one_ranks_parameters_and_scores(tmp_path: Path) -> None:
    trained_all(str(tmp_path / "one"), {"run": []}, SMALL)
    launch(trained_all, 2, str(tmp_path / "two"), {"run": ["trainer=ddp_cpu", "trainer.max_steps=4"]}, SMALL)
    assert distance_of_parameters(tmp_path / "one" / "run", tmp_path / "two" / "run") < 1e-5
    one, two = ((tmp_path / name / "run" / "episodes.csv").read_text().splitlines() for name in ("one", "two"))
    assert [row.split(",")[0] for row in one] == [row.split(",")[0] for row in two]
