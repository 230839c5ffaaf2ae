"""Parameters of another run to start with, notes, callbacks and debugging."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

import metaloop
from metaloop.cli.main import main
from metaloop.config.build_run import build_run
from metaloop.errors import UserError
from small_runs import SMALL, described, trained, words

STEPS: list[int] = []


class CountsSteps(Callback):
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: object) -> None:
        STEPS.append(trainer.global_step)


def parameters(*more: str) -> dict[str, torch.Tensor]:
    learner = build_run(described(*SMALL, *more).config).learner
    return {name: value.clone() for name, value in learner.state_dict().items() if isinstance(value, torch.Tensor)}


def test_F21_a_run_starts_from_the_best_checkpoint_of_another(tmp_path: Path) -> None:
    trained(tmp_path / "first")
    stored = torch.load(tmp_path / "first" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    warm, cold = parameters("seed=1", f"start_from={tmp_path / 'first'}"), parameters("seed=1")
    assert any(not torch.equal(warm[name], cold[name]) for name in warm)
    for name, value in warm.items():
        assert torch.equal(value, stored[f"learner.{name}"])


def test_F21_a_run_starts_from_a_networks_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = {name.removeprefix("model."): value + 1 for name, value in parameters().items() if name.startswith("model.")}
    head = next(name for name in model if name.startswith("head"))
    torch.save({**model, head: torch.zeros(1)}, tmp_path / "weights.pt")
    warm = parameters(f"start_from={tmp_path / 'weights.pt'}")
    assert all(torch.equal(warm[f"model.{name}"], value) for name, value in model.items() if name != head)
    assert f"model.{head}" in caplog.text


def test_F21_weights_of_another_learner_are_refused(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="none of its 1 entries"):
        parameters(f"start_from={tmp_path / 'weights.pt'}")
    with pytest.raises(UserError, match="there is no such run directory or file"):
        metaloop.compose("start_from=nowhere")


def test_F21_notes_stand_in_the_record_and_change_nothing(tmp_path: Path) -> None:
    record = trained(tmp_path / "run", "notes='a second try'")
    assert record["config"]["notes"] == "a second try"
    assert record["fingerprint"] == described(*SMALL).fingerprint


def test_F21_callbacks_of_ones_own_are_called(tmp_path: Path) -> None:
    STEPS.clear()
    trained(tmp_path / "run", f"+callbacks.count._target_={__name__}.CountsSteps")
    assert STEPS == [1, 2, 3, 4, 5, 6]


def test_F21_debugging_is_a_choice_that_the_record_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changed = [line for line in SMALL if not line.startswith(("trainer", "validation", "evaluation", "name", "log_every"))]
    record = trained(tmp_path / "run", "debug=quick", small=changed)
    assert (record["choices"]["debug"], record["training"]["steps"], record["test"]["episodes"]) == ("quick", 2, 8)
    assert record["name"] == "debug_maml_blobs"


def test_F21_profiles_lie_in_the_run_directory(tmp_path: Path) -> None:
    assert main(words(tmp_path / "run", "debug=profile")) == 0
    for part in ("fit", "test"):
        assert "Total time" in (tmp_path / "run" / f"{part}-profile.txt").read_text()
    assert main(["evaluate", f"run={tmp_path / 'run'}", "evaluation.episodes=3"]) == 0
    with pytest.raises(UserError, match=r"trainer\.profiler=fast: must be one of simple, advanced"):
        described(*SMALL, "+trainer.profiler=fast")


def test_F21_the_command_line_takes_them_all(tmp_path: Path) -> None:
    assert main(words(tmp_path / "run", "notes=first", "algorithm=prototypes")) == 0
    assert main(words(tmp_path / "next", f"start_from={tmp_path / 'run'}", "algorithm=prototypes_cosine")) == 0
