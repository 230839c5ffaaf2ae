"""Mistakes of a command line: numbers are checked before anything is imported or written, and answers name the fix."""

from pathlib import Path

import pytest

import metaloop
from metaloop.cli.main import main
from metaloop.errors import UserError
from small_runs import words

WRONG = {
    "trainer.max_steps=0": "trainer.max_steps=0: a whole number of at least 1",
    "trainer.max_steps=-1": "trainer.max_steps=-1: a whole number of at least 1",
    "~trainer.max_steps": "'trainer.max_steps' not found",
    "~log_every": "log_every is missing",
    "seed=-1": "seed=-1: a whole number of at least 0",
    "++seed=1.5": "seed=1.5: a whole number",
    "validation.episodes=1": "validation.episodes=1: a whole number of at least 2",
    "outer.meta_batch=0": "outer.meta_batch=0: a whole number of at least 1",
}


@pytest.mark.parametrize("word", WRONG)
def test_F16_a_number_out_of_range_is_refused_and_leaves_nothing(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", word]) == 2
    assert WRONG[word] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "F16 dashes": (["--algorithm", "anil"], "--algorithm: keys are written without dashes: algorithm=anil"),
    "F16 no such group here": (["dataset/augmentation=flip_crop"], "dataset/augmentation: this dataset has no such group"),
    "F16 several options": (["algorithm=maml,anil"], "several values make a sweep: add -m, or give one option"),
    "E8 a part is gone": (["~outer"], "outer"),
    "E8 no filters": (["model.filters=0"], "model cannot be built with the arguments filters=0"),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element")  # torch, before it divides by zero
@pytest.mark.parametrize("name", MISTAKES)
def test_F16_E8_a_mistake_is_answered_with_the_fix(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, message = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    assert main(["train", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_E8_a_run_without_loggers_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words(tmp_path / "run", "~logger")) == 0


def test_B12_numbers_from_the_environment_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "7")
    run = metaloop.compose("seed=${oc.env:N}", "trainer.max_steps=${oc.env:N}", "validation.every=${oc.env:N}")
    assert (run.seed, run.config["trainer"]["max_steps"], run.config["validation"]["every"]) == (7, 7, 7)
    monkeypatch.setenv("N", "seven")
    with pytest.raises(UserError, match="seed='seven': a whole number"):
        metaloop.compose("seed=${oc.env:N}")
