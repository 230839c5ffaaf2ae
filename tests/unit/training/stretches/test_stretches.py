"""Runs whose outer steps are taken in stretches equal runs that are taken step by step. The compiler has a slow test."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.runs.start import build_parts
from metaloop.system.tensors import load_checkpoint
from metaloop.training.stretches import captured, capturing
from small_runs import described, outcome, rows, trained

LENGTHS = ("trainer.max_steps=33", "validation.every=12", "log_every=5")
RUN = ("algorithm/over_tasks=vmap", "algorithm.over_tasks.checked=false", *LENGTHS)
VARIANTS = {
    "adam, clipped by norm": ("trainer.gradient_clip_val=0.5",),
    "adamw, cosine": (
        "outer=adam_cosine", "outer.optimizer._target_=torch.optim.AdamW", "+outer.optimizer.weight_decay=0.1",
    ),
    "adam with weight decay, clipped by value": (
        "+outer.optimizer.weight_decay=0.1", "trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=value",
    ),
    "sgd with momentum": ("outer=sgd", "outer.optimizer.lr=0.02"),
    "sgd, linear": ("outer=reptile", "outer.optimizer.lr=0.02"),
    "schedules of the algorithm": (
        "algorithm/meta_gradient=annealed", "algorithm.meta_gradient.until=20", "algorithm/objective=annealed",
        "algorithm.objective.until=15", "algorithm.objective.stages=2", "algorithm.steps=2",
    ),
    "a neural process": ("algorithm=cnp", "algorithm.reader.width=8", "dataset=gp", "episode=functions", "episode.ways=1"),
}  # fmt: skip


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take stretches by the plain function, without a compiler; holds the number of steps in each call."""
    calls: list[int] = []

    def counted(function: Any, example: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(1)
            return function(*arguments)

        return call

    monkeypatch.setattr(captured, "compiled", counted)
    return calls


def final(directory: Path) -> dict[str, Any]:
    return load_checkpoint(directory / "checkpoints" / "last.ckpt")


def assert_equal(expected: Any, actual: Any, where: str = "") -> None:
    """Compare checkpoints: tensors up to rounding, everything else exactly, without times and choices."""
    if isinstance(expected, dict):
        assert expected.keys() == actual.keys(), where
        for name in expected:
            if name not in ("seconds", "cpu_seconds", "progress", "merit", "fingerprint", "best", "best_score"):
                assert_equal(expected[name], actual[name], f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(expected) == len(actual), where
        for i, (left, right) in enumerate(zip(expected, actual, strict=True)):
            assert_equal(left, right, f"{where}.{i}")
    elif isinstance(expected, torch.Tensor) and expected.is_floating_point():
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4, msg=lambda text: f"{where}: {text}")
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, rel=1e-6), where
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected), where
    else:
        assert actual == expected, where


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_in_stretches_equals_one_step_by_step(name: str, plain: list[int], tmp_path: Path) -> None:
    lines = (*RUN, *VARIANTS[name])
    trained(tmp_path / "steps", *lines, "stretches=false")
    assert not plain
    record = trained(tmp_path / "stretches", *lines, "stretches=true")
    assert len(plain) > 8
    assert record["training"]["stretches"].startswith("in stretches")
    assert_equal(final(tmp_path / "steps"), final(tmp_path / "stretches"))
    expected, actual = (rows(tmp_path / kind / "metrics.csv") for kind in ("steps", "stretches"))
    assert [row["step"] for row in expected] == [row["step"] for row in actual]
    for left, right in zip(expected, actual, strict=True):
        for column in set(left) - {"train/tasks_per_second", "time"}:
            if left[column] or right[column]:
                assert float(right[column]) == pytest.approx(float(left[column]), rel=1e-3, abs=1e-5), (column, left["step"])


def test_a_killed_run_goes_on_in_stretches_to_the_same_end(plain: list[int], tmp_path: Path) -> None:
    """A resumed process knows nothing of the stretches before it, and takes the same ones."""
    lines = (*RUN, "stretches=true")
    trained(tmp_path / "whole", *lines)
    directory = tmp_path / "killed"

    class Stop(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch:

        def stop_late(self: Any, trainer: Any, stop: int) -> Any:
            if stop > 25:
                raise Stop
            return take(self, trainer, stop)

        from metaloop.training.stretches.stretches import Stretches

        take = Stretches.take
        patch.setattr(Stretches, "take", stop_late)
        with pytest.raises(Stop):
            trained(directory, *lines)
    assert final(directory)["global_step"] == 24
    trained(directory, *lines, resume=True)
    assert outcome(directory) == outcome(tmp_path / "whole")


def test_a_loss_that_is_not_finite_is_found_in_a_stretch_and_named(plain: list[int], tmp_path: Path) -> None:
    lines = (*RUN, "outer=sgd", "outer.optimizer.lr=1e6", "outer.optimizer.momentum=0", "outer.optimizer.nesterov=false")
    messages = []
    for mode in ("false", "true"):
        with pytest.raises(UserError, match="the outer loss became") as error:
            trained(tmp_path / mode, *lines, f"stretches={mode}")
        messages.append(str(error.value).split("training stream")[0])
    assert messages[0] == messages[1]


class EachStep(Callback):
    """A callback that needs each step."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        pass


REFUSED = {
    "a callback needs each step": (
        ("algorithm/over_tasks=vmap", "+callbacks.each._target_=test_stretches.EachStep"),
        "EachStep has on_train_batch_end",
    ),
    "another optimiser": (("algorithm/over_tasks=vmap", "outer.optimizer._target_=torch.optim.NAdam"), "NAdam"),
    "a metric learner": (("algorithm=prototypes",), "MetricLearner"),
    "the loop": ((), "over_tasks is loop"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured_is_refused_and_said(name: str, plain: list[int], tmp_path: Path) -> None:
    overrides, reason = REFUSED[name]
    lines = (*LENGTHS, "~outer.optimizer.fused", "trainer.max_steps=4", *overrides)
    record = trained(tmp_path / "auto", *lines, "stretches=auto")
    assert reason in record["training"]["stretches"]
    with pytest.raises(UserError, match="stretches=true") as error:
        trained(tmp_path / "true", *lines, "stretches=true")
    assert reason in str(error.value)
    assert not plain


def test_auto_takes_stretches_where_enough_work_lies_ahead_and_remembers(
    plain: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "few", *RUN, "stretches=auto")
    assert not plain
    monkeypatch.setattr(capturing, "fewest_steps_that_pay", lambda: 1)
    monkeypatch.setattr(capturing, "compiling_pays", lambda seconds, ahead: True)
    trained(tmp_path / "many", *LENGTHS, "algorithm/over_tasks=auto", "stretches=auto")
    choices = json.loads((tmp_path / "many" / "choices.json").read_text())
    assert plain  # a perceptron, whatever runs its single steps
    assert choices["stretches"] == "yes"


def test_networks_with_convolutions_take_stretches_only_where_tasks_run_all_at_once(
    plain: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "fewest_steps_that_pay", lambda: 1)
    monkeypatch.setattr(Auto, "runs_by_vmap", False)
    images = ("dataset=glyphs", "episode=5w1s", "model=conv4", "model.filters=4", "trainer.max_steps=3")
    record = trained(tmp_path, *LENGTHS, *images, "algorithm/over_tasks=auto", "stretches=auto")
    assert "tasks are run by" in record["training"]["stretches"]
    assert not plain


def test_a_long_step_that_compiling_does_not_shorten_is_taken_as_it_was(
    plain: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "fewest_steps_that_pay", lambda: 1)
    monkeypatch.setattr(capturing, "compiling_pays", lambda seconds, ahead: True)
    times = iter((0.1, 0.2))
    monkeypatch.setattr(capturing, "_seconds", lambda run: next(times))
    record = trained(tmp_path, *RUN, "trainer.max_steps=6", "stretches=auto")
    assert "compiled, it takes 200.00 ms in the place of 100.00 ms" in record["training"]["stretches"]


def test_a_long_step_of_a_perceptron_is_worth_compiling_where_much_work_lies_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = build_parts(described("algorithm=maml", "dataset=sinusoid", "model=mlp", "episode=regression"), {}).learner
    monkeypatch.setattr(capturing, "_seconds", lambda run: 0.1)
    assert capturing.check_pays(learner, {}, None, ahead=60000) == 0.1  # type: ignore[arg-type]
    with pytest.raises(capturing.NotCapturedError, match="does not pay for 800"):
        capturing.check_pays(learner, {}, None, ahead=800)  # type: ignore[arg-type]
    learner.model.extra = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(capturing.NotCapturedError, match="does not pay for 60,000"):
        capturing.check_pays(learner, {}, None, ahead=60000)  # type: ignore[arg-type]


def test_a_mode_that_does_not_exist_names_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stretches='often': auto, true or false"):
        trained(tmp_path, "stretches=often")
