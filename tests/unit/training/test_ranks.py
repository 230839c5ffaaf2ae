"""Two ranks on one machine against one."""

import os
from pathlib import Path

import pytest
import torch

from metaloop.errors import UserError
from metaloop.training.ranks import launch
from small_runs import rows, trained_all

# The first run's momentum is its only meta-gradient. All validation episodes fit into one batch, and yet each rank has some of
# them (E5).
RUNS = {
    "gradient": ["outer=sgd", "outer.optimizer.weight_decay=0", "trainer.max_steps=1"],
    # Classification, then episodes, with statistics of meta-training; weight decay would move what rests.
    "regimes": [
        "algorithm=meta_baseline",
        "algorithm/transform=centred",
        "algorithm.regime.classification_steps=2",
        "outer=sgd",
    ],
    "in context": ["algorithm=set_transformer"],
    "closed form": ["algorithm=r2d2"],
    "steps": ["trainer.max_steps=10", "log_every=5", "validation.episodes=5"],
}
BOTH = ["outer.meta_batch=4", "evaluation.episodes=5", "evaluation.batch=4"]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    trained_all(str(one), {name: [*overrides, *BOTH] for name, overrides in RUNS.items()})
    shared = {name: ["trainer=ddp_cpu", *overrides, *BOTH] for name, overrides in RUNS.items()}
    launch(trained_all, 2, str(two), shared)
    return one, two


def checkpoint(directory: Path, name: str) -> dict:
    return torch.load(directory / name / "checkpoints" / "last.ckpt", weights_only=True)


def error(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    """Relative, in the norm of all tensors together."""
    a, b = (torch.cat([tensor.flatten().double() for tensor in tensors]) for tensors in (one, two))
    return float((a - b).norm() / a.norm())


def test_two_ranks_have_one_ranks_meta_gradient(directories: tuple[Path, Path]) -> None:
    one, two = (
        [state["momentum_buffer"] for state in checkpoint(directory, "gradient")["optimizer_states"][0]["state"].values()]
        for directory in directories
    )
    assert all(gradient.abs().max() > 1e-6 for gradient in one)
    assert error(one, two) < 1e-6


@pytest.mark.parametrize("name", ["steps", "regimes", "in context", "closed form"])
def test_two_ranks_reach_one_ranks_parameters(name: str, directories: tuple[Path, Path]) -> None:
    states = [checkpoint(directory, name)["state_dict"] for directory in directories]
    one, two = ([value for value in state.values() if isinstance(value, torch.Tensor)] for state in states)
    assert error(one, two) < 1e-5  # ten steps of Adam make more of float32's rounding than one gradient has


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_score_each_episode_once_and_as_one_does(name: str, directories: tuple[Path, Path]) -> None:
    one, two = (rows(directory / name / "episodes.csv") for directory in directories)
    assert [row["index"] for row in two] == ["0", "1", "2", "3", "4"]
    assert [row["score"] for row in two] == [row["score"] for row in one]
    losses = [[float(row["loss"]) for row in part] for part in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_two_ranks_write_one_ranks_rows(directories: tuple[Path, Path]) -> None:
    one, two = (rows(directory / "steps" / "metrics.csv", ["train/tasks_per_second"]) for directory in directories)
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for ours, theirs in zip(one, two, strict=True):
        if ours["validation/score"]:
            assert theirs["validation/score"] == ours["validation/score"]


def misled(directory: str) -> None:
    """Rank one's mistake, while rank zero waits for it."""
    if os.environ["RANK"] == "1":
        raise UserError("rank one was misled")
    torch.distributed.init_process_group("gloo")
    torch.distributed.barrier()


def test_a_mistake_in_one_rank_ends_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rank one was misled"):
        launch(misled, 2, str(tmp_path))
