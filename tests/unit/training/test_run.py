"""A run as a whole, in this process: the same twice, and the same when it was stopped and continued."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from metaloop.config.build import build_dataset, build_learner, build_plan
from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.records.reading import read_record
from metaloop.report.summary import lines as summary_lines
from metaloop.training import checkpoints, meta_test
from metaloop.training import run as run_module
from metaloop.training.choices import KeptChoices
from small_runs import SMALL, Blobs, described, outcome, rows, trained


class Killed(Exception):
    """Stands for kill -9: nothing in metaloop knows it."""


def dying(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    """``function``, killed instead of its call number ``after`` (from 0)."""
    calls = iter(range(after + 1))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls, after) == after:
            raise Killed
        return function(*arguments, **named)

    return call


DEATHS = {
    "before the first checkpoint": (run_module.Trackers, "log", 1),
    "between two checkpoints": (run_module.Trackers, "log", 4),
    "at a validation, before its checkpoint": (run_module.Trackers, "log", 5),
    "after the last checkpoint, before it becomes the best": (checkpoints.os, "link", 0),
    "in the meta-test": (meta_test, "write_csv", 0),
    "while the record is written": (run_module, "write_record", 0),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "undisturbed"
    trained(directory)
    return directory


def test_the_same_seed_gives_the_same_run(undisturbed: Path, tmp_path: Path) -> None:
    trained(tmp_path)
    assert outcome(tmp_path) == outcome(undisturbed)


def test_another_seed_gives_another_run_on_the_same_test_episodes(undisturbed: Path, tmp_path: Path) -> None:
    Blobs.drawn.clear()
    record = trained(tmp_path, "seed=1")
    ours, theirs = outcome(tmp_path), outcome(undisturbed)
    assert ours["parameters"] != theirs["parameters"]
    assert ours["episodes"] != theirs["episodes"]
    assert record["test"]["seed"] == 0


def test_worker_processes_change_nothing(undisturbed: Path, tmp_path: Path) -> None:
    trained(tmp_path, "workers=2")
    assert outcome(tmp_path) == outcome(undisturbed)


def test_worker_processes_change_nothing_where_the_model_draws_random_numbers(tmp_path: Path) -> None:
    for workers in (0, 1):
        trained(tmp_path / str(workers), f"workers={workers}", "model._target_=small_runs.Dropping")
    assert outcome(tmp_path / "0")["parameters"] == outcome(tmp_path / "1")["parameters"]


@pytest.mark.parametrize("death", DEATHS)
def test_a_stopped_run_goes_on_to_the_same_end(
    death: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, after = DEATHS[death]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying(getattr(place, name), after))
        with pytest.raises(Killed):
            trained(tmp_path)
    torch.manual_seed(99)
    record = trained(tmp_path, resume=True)
    assert outcome(tmp_path) == outcome(undisturbed)
    assert record["training"]["steps"] == 6
    assert record["training"]["cpu_seconds"] > 0


def test_schedule_momentum_and_dropout_go_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("outer=adam_cosine", "model._target_=small_runs.Dropping", "trainer.gradient_clip_val=1.0")
    trained(tmp_path / "whole", *wanted)
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Trackers, "log", dying(run_module.Trackers.log, 4))
        with pytest.raises(Killed):
            trained(tmp_path / "stopped", *wanted)
    torch.manual_seed(99)
    trained(tmp_path / "stopped", *wanted, resume=True)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    rates = [float(row["train/learning_rate"]) for row in rows(tmp_path / "whole" / "metrics.csv") if row["train/loss"]]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]


def learned(directory: Path) -> dict[str, torch.Tensor]:
    state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def test_parameters_that_rest_are_moved_by_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by weight decay nor by momentum, and a run that is continued knows it."""
    wanted = ("algorithm=meta_baseline", "algorithm.regime.classification_steps=4", "outer=sgd")
    trained(tmp_path / "four", *wanted, "trainer.max_steps=4")
    trained(tmp_path / "six", *wanted)
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Trackers, "log", dying(run_module.Trackers.log, 4))
        with pytest.raises(Killed):
            trained(tmp_path / "stopped", *wanted)
    trained(tmp_path / "stopped", *wanted, resume=True)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "six")
    four, six = learned(tmp_path / "four"), learned(tmp_path / "six")
    scale, head = "learner.comparison.scale.log", "learner.classes_head.weight"
    assert four[scale] == torch.tensor(10.0).log() != six[scale]
    assert torch.equal(four[head], six[head])


def test_where_nothing_is_learned_no_optimiser_moves_anything(tmp_path: Path) -> None:
    trained(tmp_path, "algorithm=nearest_centroid", "outer=sgd", "outer.optimizer.weight_decay=0.5")
    config = described(*SMALL, "algorithm=nearest_centroid").config
    came = build_learner(config, build_dataset(config).split("train"), build_plan(config).train_spec).state_dict()
    for name, value in learned(tmp_path).items():
        assert torch.equal(value, came[name.removeprefix("learner.")]), name


def test_a_run_that_had_stopped_early_trains_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("validation.patience=1", "trainer.max_steps=40", "outer.optimizer.lr=0")
    trained(tmp_path / "whole", *wanted)
    assert outcome(tmp_path / "whole")["steps"] == {"best": 2, "last": 4}
    with monkeypatch.context() as patch:
        patch.setattr(meta_test, "write_csv", dying(meta_test.write_csv, 0))
        with pytest.raises(Killed):
            trained(tmp_path / "stopped", *wanted)
    trained(tmp_path / "stopped", *wanted, resume=True)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


def test_a_stop_costs_no_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ("validation.patience=3", "trainer.max_steps=40", "outer.optimizer.lr=0")
    trained(tmp_path / "whole", *wanted)
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Trackers, "log", dying(run_module.Trackers.log, 7))  # after the third row behind step 4
        with pytest.raises(Killed):
            trained(tmp_path / "stopped", *wanted)
    trained(tmp_path / "stopped", *wanted, resume=True)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    assert outcome(tmp_path / "whole")["steps"] == {"best": 2, "last": 8}


def test_more_test_episodes_keep_the_first_scores(undisturbed: Path, tmp_path: Path) -> None:
    trained(tmp_path, "evaluation.episodes=11")
    more, few = rows(tmp_path / "episodes.csv"), rows(undisturbed / "episodes.csv")
    assert len(more) == 11
    assert more[:6] == few
    assert [row["index"] for row in more] == [str(number) for number in range(11)]


def test_no_test_episode_is_drawn_before_training_has_ended(tmp_path: Path) -> None:
    Blobs.drawn.clear()
    trained(tmp_path)
    splits = [split for split, _ in Blobs.drawn]
    first = splits.index("test")
    assert {"train", "validation"} == set(splits[:first])
    assert {"test"} == set(splits[first:])
    assert [number for split, numbers in Blobs.drawn if split == "train" for number in numbers] == list(range(12))


def test_the_test_is_of_the_best_checkpoint_and_not_of_the_last(tmp_path: Path) -> None:
    record = trained(tmp_path, "outer.optimizer.lr=0.3")
    scores = {
        int(row["step"]): float(row["validation/score"]) for row in rows(tmp_path / "metrics.csv") if row["validation/score"]
    }
    assert record["training"]["best_validation"] == max(scores.values())
    assert record["training"]["best_step"] == max(scores, key=lambda step: scores[step]) == outcome(tmp_path)["steps"]["best"]
    best = record["training"]["best_step"]
    assert best < 6
    trained(tmp_path / "shorter", "outer.optimizer.lr=0.3", f"trainer.max_steps={best}")
    assert outcome(tmp_path / "shorter")["episodes"] == outcome(tmp_path)["episodes"]


@pytest.mark.parametrize("other", ["model.hidden=[4]", "algorithm.steps=2"])
def test_a_checkpoint_of_another_config_is_refused(other: str, undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    os.link(undisturbed / "checkpoints" / "last.ckpt", tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="of another config"):
        trained(tmp_path, other, resume=True)


def test_a_cut_checkpoint_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    whole = (undisturbed / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"last\.ckpt is not a readable checkpoint"):
        trained(tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"outer step 0, in the tasks numbered 0 to 1 .*no checkpoint yet.* algorithm\.rule\.lr"
    ):
        trained(tmp_path, "algorithm.rule.lr=1e30", "algorithm.steps=2")
    assert not (tmp_path / "record.json").exists()
    assert not (tmp_path / "checkpoints").exists()


def test_parameters_that_are_no_numbers_reach_no_checkpoint(tmp_path: Path) -> None:
    # The loss of the only step is finite, what the optimiser makes of it is not.
    with pytest.raises(UserError, match=r"outer\.optimizer\.lr"):
        trained(tmp_path, "outer=sgd", "outer.optimizer.lr=inf", "trainer.max_steps=1")
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_answers_that_are_no_numbers_are_no_score(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\d of the 6 test episodes.* algorithm\.eval_steps"):
        trained(tmp_path, "algorithm.eval_steps=9", "algorithm.rule.lr=1e9", "outer.optimizer.lr=0")
    assert not (tmp_path / "record.json").exists()


def test_a_full_disk_is_an_oserror_that_says_so_and_leaves_the_last_checkpoint_whole(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    os.link(undisturbed / "checkpoints" / "last.ckpt", folder / "last.ckpt")
    before = (folder / "last.ckpt").read_bytes()
    (folder / f".last.ckpt.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        trained(tmp_path)
    assert (folder / "last.ckpt").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]


def test_what_was_chosen_by_timing_is_kept_before_the_first_checkpoint(tmp_path: Path) -> None:
    """A run that goes on takes up the file's choice, whatever timing would say now."""
    over_tasks = Auto(expected_steps=1)
    kept = KeptChoices(tmp_path / "choices.json", over_tasks)
    (tmp_path / "choices.json").write_text('{"gradient": "vmap", "map": "loop"}')
    kept.on_fit_start(SimpleNamespace(is_global_zero=True), None)  # type: ignore[arg-type]
    assert over_tasks.choices() == {"gradient": "vmap", "map": "loop"}
    over_tasks.restore({"gradient": "loop", "map": "loop"})
    kept.on_train_batch_end(SimpleNamespace(is_global_zero=True))  # type: ignore[arg-type]
    assert json.loads((tmp_path / "choices.json").read_text())["gradient"] == "loop"


def test_a_neural_process_leaves_bands_likelihoods_and_what_could_be_reached(tmp_path: Path) -> None:
    lines = ("algorithm=cnp", "algorithm.reader.width=8", "dataset=gp", "episode=functions", "episode.ways=1", "log_every=1")
    record = trained(tmp_path, *lines)
    test = record["test"]
    assert {"log_likelihood", "coverage"} <= set(test["others"])
    assert test["oracle"]["others"]["log_likelihood"]["mean"] > test["others"]["log_likelihood"]["mean"]
    assert 0.8 < test["oracle"]["others"]["coverage"]["mean"] <= 1
    assert {"log_likelihood", "coverage"} <= set(rows(tmp_path / "episodes.csv")[0])
    samples = np.load(tmp_path / "samples.npz")
    assert samples["low"].shape == samples["true"].shape == (4, 200)
    assert ((samples["low"] < samples["mean"]) & (samples["mean"] < samples["high"])).all()
    assert np.isnan(samples["support_y"]).any()
    summary = " ".join(summary_lines(read_record(tmp_path), tmp_path))
    assert "within the 90 % bands" in summary
    assert "exact Gaussian process, true kernel" in summary
