"""``metaloop train`` from the command line: what it leaves, how it goes on, and what it refuses."""

import fcntl
import itertools
import json
import os
import pickle
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb

from limited_files import files_limited_to
from metaloop.cli.main import main
from metaloop.system.tensors import load_checkpoint
from metaloop.training import checkpoints, meta_test
from metaloop.training.outer_module import OuterModule
from small_runs import Blobs, outcome, rows, words

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are typed in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def unfinished(finished_run: Path, tmp_path: Path) -> Path:
    """A run that was killed in its meta-test, in ``outputs/small/first``."""
    directory = tmp_path / "outputs" / "small" / "first"
    shutil.copytree(finished_run, directory)
    for name in ("record.json", "episodes.csv", "samples.npz"):
        (directory / name).unlink()
    return directory


def refused(capsys: Captured, *argv: str) -> str:
    """What is said on stderr; the status must be the user's error, and there must be no traceback."""
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_a_run_leaves_its_whole_directory_and_says_where(tmp_path: Path, capsys: Captured) -> None:
    assert main(words(tmp_path / "run")) == 0
    names = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    expected = "run.json record.json episodes.csv metrics.csv samples.npz checkpoints/best.ckpt checkpoints/last.ckpt"
    assert set(expected.split()) | {"report/index.html"} <= names
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["choices"] | {"dataset": "blobs", "model": "tiny", "algorithm": "maml"} == record["choices"]
    assert record["config"]["outer"]["meta_batch"] == 2
    assert "outer.meta_batch=2" in record["overrides"]
    mean = sum(float(row["score"]) for row in rows(tmp_path / "run" / "episodes.csv")) / 6
    assert record["test"]["mean"] == pytest.approx(mean)
    said = capsys.readouterr().out
    assert f"{100 * mean:.2f} ±" in said
    assert "nearest neighbour in pixels" in said
    assert "run/report/index.html" in said


def test_the_default_place_is_named_after_the_run(tmp_path: Path) -> None:
    argv = [word for word in words(tmp_path) if not word.startswith(("hydra.run.dir", "name="))]
    assert main(argv) == 0
    (directory,) = (tmp_path / "outputs" / "maml_blobs").iterdir()
    assert (directory / "record.json").exists()


def test_a_sweep_makes_one_run_a_value_in_one_group(tmp_path: Path) -> None:
    line = [word for word in words(tmp_path, f"hydra.sweep.dir={tmp_path}/sweep", "seed=0,1") if "hydra.run" not in word]
    assert main(["train", "-m", *line[1:]]) == 0
    runs = sorted((tmp_path / "sweep").glob("seed=*"))
    assert [json.loads((run / "record.json").read_text())["seed"] for run in runs] == [0, 1]
    assert [json.loads((run / "run.json").read_text())["group"] for run in runs] == ["sweep", "sweep"]


def test_hydras_own_multirun_still_runs(tmp_path: Path) -> None:
    line = words(tmp_path, f"hydra.sweep.dir={tmp_path}/sweep", "seed=0,1", "hydra/sweeper=basic")
    assert main(["train", "-m", *line[1:]]) == 0
    assert [json.loads((tmp_path / "sweep" / job / "record.json").read_text())["seed"] for job in "01"] == [0, 1]


@pytest.mark.parametrize("how", ["directory", "auto"])
def test_a_killed_run_goes_on(how: str, unfinished: Path, finished_run: Path, capsys: Captured) -> None:
    argv = ["train", f"resume={unfinished}"] if how == "directory" else words(unfinished.parent / "new", "resume=auto")
    assert main(argv) == 0
    assert outcome(unfinished) == outcome(finished_run)
    assert "small/first" in capsys.readouterr().out
    assert not (unfinished.parent / "new" / "run.json").exists()


def test_resume_auto_starts_anew_where_no_run_of_this_config_is_unfinished(unfinished: Path, capsys: Captured) -> None:
    assert main(words(unfinished.parent / "new", "resume=auto", "seed=3")) == 0
    assert "a new run starts" in capsys.readouterr().out  # F13
    assert not (unfinished / "record.json").exists()
    assert (unfinished.parent / "new" / "record.json").exists()


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_the_beginning(
    unfinished: Path, finished_run: Path
) -> None:
    shutil.rmtree(unfinished / "checkpoints")
    assert main(["train", f"resume={unfinished}"]) == 0
    assert outcome(unfinished) == outcome(finished_run)


def test_E3_E13_a_run_that_was_killed_before_its_report_gets_it(finished_run: Path, tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "outputs" / "run"
    shutil.copytree(finished_run, run)
    shutil.rmtree(run / "report")
    record = (run / "record.json").read_bytes()
    assert main(["train", f"resume={run}"]) == 0
    assert "meta-test accuracy" in capsys.readouterr().out
    assert (run / "report" / "index.html").exists()
    assert (run / "record.json").read_bytes() == record
    assert "is finished" in refused(capsys, "train", f"resume={run}")


def test_E4_remains_of_killed_processes_go_with_the_next_start(unfinished: Path) -> None:
    remains = [unfinished / ".record.json.ab_c1.part", unfinished / "checkpoints" / ".last.ckpt.999999999"]
    for path in remains:
        path.touch()
    (unfinished / ".mine").touch()
    assert main(["train", f"resume={unfinished}"]) == 0
    assert not any(path.exists() for path in remains)
    assert (unfinished / ".mine").exists()


def test_F13_a_checkpoint_in_the_place_of_a_run_names_the_run(finished_run: Path, capsys: Captured) -> None:
    assert f"resume={finished_run}" in refused(capsys, "train", f"resume={finished_run}/checkpoints/last.ckpt")


def test_a_finished_run_is_not_resumed(finished_run: Path, capsys: Captured) -> None:
    said = refused(capsys, "train", f"resume={finished_run}")
    assert "is finished" in said
    assert f"metaloop report {finished_run}" in said


def test_a_run_goes_on_as_it_was_configured(unfinished: Path, capsys: Captured) -> None:
    said = refused(capsys, "train", f"resume={unfinished}", "trainer.max_steps=9")
    assert "leave out trainer.max_steps=9" in said


def test_resume_of_nothing(tmp_path: Path, capsys: Captured) -> None:
    assert "is no run directory" in refused(capsys, "train", f"resume={tmp_path / 'nowhere'}")
    assert "is no run directory" in refused(capsys, "train", f"resume={tmp_path}")


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["torch.save", "pickle", "inside a checkpoint"])
@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_checkpoint_is_never_unpickled(how: str, command: str, unfinished: Path, tmp_path: Path, capsys: Captured) -> None:
    evil, name = Evil(tmp_path / "executed"), "last.ckpt" if command == "resume" else "best.ckpt"
    path = unfinished / "checkpoints" / name
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        saved = torch.load(path, weights_only=True) | {"extra": evil}
        path.unlink()  # best and last may be one file
        torch.save(saved if how == "inside a checkpoint" else evil, path)
    argv = ["train", f"resume={unfinished}"] if command == "resume" else ["evaluate", f"run={unfinished}", "unfinished=true"]
    assert f"{name} is not a readable checkpoint" in refused(capsys, *argv)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
def test_a_cut_checkpoint_is_refused(length: float, unfinished: Path, capsys: Captured) -> None:
    path = unfinished / "checkpoints" / "last.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(length if length >= 1 else length * len(whole))])
    assert "last.ckpt is not a readable checkpoint" in refused(capsys, "train", f"resume={unfinished}")


WRONG = {
    "unknown key": (["trainer.max_step=3"], "trainer.max_steps"),
    "unknown group": (["datasets=glyphs"], "dataset"),
    "unknown option": (["algorithm=mamll"], "maml"),
    "wrong type": (["trainer.max_steps=many"], "a whole number"),
    "a mandatory value": (["algorithm/adapted=pattern"], "algorithm.adapted.pattern"),
    "ways above the classes": (["episode.ways=7"], "episode.ways=7: the train split has only 6 classes"),
    "examples above the drawings": (
        ["episode.shots=4", "episode.queries=5"],
        "class 'train0' of the train split has only 8",
    ),
    "no shots": (["episode.shots=0"], "episode.shots=0: give a whole number of at least 1"),
    "meta-batch": (["outer.meta_batch=0"], "outer.meta_batch=0: a whole number of at least 1"),
    "negative seed": (["seed=-1"], "seed=-1"),
    "one episode": (["evaluation.episodes=1"], "evaluation.episodes=1: a whole number of at least 2"),
    "no steps": (["algorithm.steps=0"], "algorithm.steps=0: a whole number of at least 1"),
    "patience": (["validation.patience=0"], "validation.patience=0: a whole number of at least 1"),
    "a class that does not import": (["algorithm._target_=nowhere.Learner"], "algorithm._target_='nowhere.Learner'"),
    "a model that does not import": (["model._target_=metaloop.models.mlp.Nothing"], "model cannot be built"),
    "part of a model": (["+model._partial_=true"], "model._partial_=true: a Module is made whole"),
    "no learner": (["algorithm._target_=torch.nn.Identity"], "must be a metaloop.learners.learner.Learner"),
    "an argument too many": (["+model.colour=red"], "colour"),
    "model that does not fit the data": (["model=conv4", "model.downsample=pool", "dataset.side=8"], "too small"),
    "regression of classes": (["dataset=sinusoid"], "episode=regression"),
    "precision": (["trainer.precision=7"], "one of 32-true, bf16-mixed"),
    "a precision we do not support": (["trainer.precision=bf16-true"], "one of 32-true, bf16-mixed"),
    "fp16 on the CPU": (["trainer.precision=16-mixed"], "needs a GPU"),
    "no key of Lightning": (["+trainer.colour=red"], "colour"),
    "no rate": (["outer.optimizer.lr=-1"], "outer.optimizer"),
    "missing data": (["dataset=omniglot", "dataset.data_dir=nowhere"], "metaloop data get omniglot"),
    "no GPU": (["trainer=gpu"], "trainer=cpu"),
    "no GPUs": (["trainer=ddp"], "trainer=cpu"),
    "meta-batch and ranks": (
        ["trainer=ddp_cpu", "outer.meta_batch=3"],
        "outer.meta_batch=3 cannot be shared by 2 ranks",
    ),
    "no number": (["algorithm.rule.lr=1e30", "algorithm.steps=2"], "outer step 0, in the tasks numbered 0 to 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_is_refused_with_what_to_change(
    wrong: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides, expected = WRONG[wrong]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = refused(capsys, *words(tmp_path / "run", *overrides))
    assert expected in said
    assert not (tmp_path / "run" / "record.json").exists()


def test_missing_data_names_path_command_and_licence(tmp_path: Path, capsys: Captured) -> None:
    said = refused(capsys, *words(tmp_path / "run", "dataset=omniglot", f"dataset.data_dir={tmp_path}/nowhere"))
    assert f"{tmp_path}/nowhere" in said
    assert "metaloop data get omniglot" in said
    assert "MIT" in said


def test_a_full_disk_ends_with_a_plain_message(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / f".last.ckpt.{os.getpid()}").symlink_to("/dev/full")
    said = refused(capsys, *words(tmp_path / "run"))
    assert "the disk is full" in said
    assert "resume=" in said


def test_E2_a_disk_that_is_full_at_the_second_checkpoint_leaves_the_first_and_the_run_goes_on(
    tmp_path: Path, finished_run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, save = itertools.count(1), checkpoints.save_tensors

    def save_on_little_space(content: Any, path: Path) -> None:
        with files_limited_to(3000) if next(calls) == 2 else nullcontext():
            save(content, path)

    monkeypatch.setattr(checkpoints, "save_tensors", save_on_little_space)
    said = refused(capsys, *words(tmp_path / "run"))
    assert "the disk is full while writing" in said
    assert f"continue with: metaloop train resume={tmp_path / 'run'}" in said
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert main(["train", f"resume={tmp_path / 'run'}"]) == 0
    assert outcome(tmp_path / "run") == outcome(finished_run)


def test_F20_the_episode_of_the_page_knows_the_names_of_its_classes(finished_run: Path) -> None:
    samples, pool = np.load(finished_run / "samples.npz"), Blobs().split("test")
    for image, label in zip(samples["support_x"], samples["support_y"], strict=True):
        number = pool.names.index(samples["names"][label])
        drawings = pool.inputs[8 * number : 8 * number + 8].numpy() / 255
        assert np.isclose(drawings, image, atol=1e-6).all((1, 2, 3)).any()


def test_a_directory_takes_one_run(finished_run: Path, capsys: Captured) -> None:
    before = outcome(finished_run)
    said = refused(capsys, *words(finished_run))
    assert f"already holds a run: continue it with resume={finished_run}" in said
    assert outcome(finished_run) == before


def test_a_directory_takes_one_process(unfinished: Path, capsys: Captured) -> None:
    with (unfinished / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = refused(capsys, "train", f"resume={unfinished}")
    assert f"another process is running in {unfinished}" in said
    assert not (unfinished / "record.json").exists()


def test_ctrl_c_names_the_command_that_goes_on(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(meta_test, "write_csv", interrupted)
    assert main(words(tmp_path / "run")) == 130
    assert f"metaloop train resume={tmp_path / 'run'}" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step"])
def test_B15_sigterm_is_told_as_such_in_every_phase(
    step: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(OuterModule, step, terminated)
    assert main(words(tmp_path / "run")) == 143
    assert capsys.readouterr().err.endswith(
        f"stopped; continue with: metaloop train resume={tmp_path / 'run'}\nmetaloop: stopped by SIGTERM\n"
    )


def test_wandb_hears_of_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real offline run; the file's own format is read by the trackers' tests."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_RUN_GROUP", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(words(tmp_path / "run", "logger=wandb")) == 0
    wandb.teardown()  # until its service has ended the file may be incomplete
    (path,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    found = path.read_bytes()
    for written in ("train/loss", "validation/score", "test/score", "dataset:blobs", "meta_batch"):
        assert written.encode() in found
    assert wandb.run is None
