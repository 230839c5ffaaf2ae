"""Two ranks on one machine against one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.system import external_ranks
from metaloop.training.processes.ranks import launch
from small_runs import SMALL_CONF, TABLES, rows, trained_all, words

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
    "in context": ["algorithm=transformer"],
    "closed form": ["algorithm=r2d2"],
    "tables": [*TABLES],
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


@pytest.mark.parametrize("name", ["steps", "regimes", "in context", "closed form", "tables"])
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


@pytest.mark.slow
def test_E5_three_ranks_share_two_episodes(tmp_path: Path) -> None:
    few = ["outer.meta_batch=3", "validation.episodes=2", "evaluation.episodes=2"]
    trained_all(str(tmp_path), {"one": few})
    launch(trained_all, 3, str(tmp_path), {"three": [*few, "trainer=ddp_cpu", "trainer.devices=3"]})
    one, three = (rows(tmp_path / name / "episodes.csv") for name in ("one", "three"))
    assert [(row["index"], row["score"]) for row in three] == [(row["index"], row["score"]) for row in one]


def commanded(folder: str, argv: list[str]) -> None:
    """A rank's command line under an external launcher."""
    os.chdir(folder)
    assert main(argv) == 0


def test_E7_E12_ranks_of_torchrun_share_the_directory_that_rank_zero_chooses(tmp_path: Path) -> None:
    argv = [word for word in words(tmp_path, "trainer=ddp_cpu") if "hydra.run.dir" not in word]
    launch(commanded, 2, str(tmp_path), argv)
    (directory,) = (tmp_path / "outputs" / "small").iterdir()
    assert {"run.json", "config.yaml", "record.json", "report"} <= {path.name for path in directory.iterdir()}
    assert main(["evaluate", f"run={directory}", "evaluation.episodes=2"]) == 0


@pytest.mark.slow
def test_F18_the_log_of_ranks_that_the_run_has_started_has_the_scores(tmp_path: Path) -> None:
    argv = [word for word in words(tmp_path / "run", "trainer=ddp_cpu") if "logging" not in word]
    assert main(argv) == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert "meta-test: accuracy" in log
    assert "outer step 6 of 6" in log
    assert f"run directory {tmp_path / 'run'}" in log


def test_E7_ranks_of_torchrun_that_would_each_train_alone_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(external_ranks, "_tell", lambda text: None)
    assert main(words(tmp_path / "run")) == 2
    assert "choose trainer=ddp" in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.slow
def test_E7_torchrun(tmp_path: Path) -> None:
    argv = [word for word in words(tmp_path, "trainer=ddp_cpu") if "hydra.run.dir" not in word]
    path = os.pathsep.join(filter(None, [str(SMALL_CONF.parent), os.environ.get("PYTHONPATH")]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "metaloop"]
    ended = subprocess.run([*torchrun, *argv], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert ended.returncode == 0
    (directory,) = (tmp_path / "outputs" / "small").iterdir()
    assert (directory / "record.json").exists()


def misled(directory: str) -> None:
    """Rank one's mistake, while rank zero waits for it."""
    if os.environ["RANK"] == "1":
        raise UserError("rank one was misled")
    torch.distributed.init_process_group("gloo")
    torch.distributed.barrier()


def test_a_mistake_in_one_rank_ends_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rank one was misled"):
        launch(misled, 2, str(tmp_path))
