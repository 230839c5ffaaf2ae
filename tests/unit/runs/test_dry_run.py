"""``metaloop train --dry-run``."""

from dataclasses import replace
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.runs.dry_run import described, rough, tried
from metaloop.training import trial as trials
from metaloop.training.trial import Trial
from small_runs import SMALL, words
from small_runs import described as identity_of

Captured = pytest.CaptureFixture[str]
TRIAL = Trial("vmap", 4.0, (1.0, 2.0, 3.0, 4.0, 5.0), 16, 0.5, 101, 5, 40, 60, False, 3 * 2**29, False)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_is_tried_and_leaves_nothing(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_SECONDS", float("inf"))  # on a machine that others use, too
    assert main([*words(tmp_path / "run", "trainer.max_steps=1000"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"small would be written to {tmp_path / 'run'}; nothing is written now" in shown
    assert "tasks run by        loop" in shown
    assert "for 1,000 outer steps" in shown
    assert "for 500 validations" in shown
    assert "20 outer steps after the second, 4 validation episodes" in shown
    assert not list(tmp_path.iterdir())


def test_a_short_run_is_tried_no_longer_than_it_lasts(capsys: Captured) -> None:
    identity = identity_of(*SMALL, "trainer.max_steps=3", "validation.episodes=50", "evaluation.batch=4")
    trial = tried(identity, in_this_process=True)
    assert (len(trial.steps), trial.max_steps, trial.validations) == (1, 3, 2)
    assert trial.episodes == 8  # the first of three batches, which chooses how to run them, does not count
    assert (trial.validation_episodes, trial.test_episodes) == (50, 6)
    assert trial.memory > 2**26
    assert trial.over_tasks == "loop"
    assert trial.patience is (identity.config["validation"].get("patience") is not None)


def test_the_trial_of_slow_steps_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_SECONDS", 0.0)
    assert len(tried(identity_of(*SMALL, "trainer.max_steps=1000"), in_this_process=True).steps) == 1


@pytest.mark.slow
def test_ranks_are_tried_together() -> None:
    one, two = (
        tried(identity_of(*SMALL, "trainer.max_steps=1000", *more), in_this_process=False) for more in ([], ["trainer=ddp_cpu"])
    )
    assert len(two.steps) == 20
    assert two.episodes == one.episodes == 4
    assert one.memory * 1.3 < two.memory < one.memory * 2.2


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["algorithm.rule.lr=-1"], "algorithm.rule.lr"),
        (["episode.ways=30"], "30"),
        (["resume=auto"], "--dry-run tries a new run; leave out resume=auto"),
        (["--cfg", "job"], "leave one of them out"),
        (["-m", "seed=0,1", "hydra/sweeper=basic"], "leave out hydra/sweeper"),
        (["seed=0,1"], "add -m"),
    ],
)
def test_mistakes_are_those_of_training(more: list[str], reason: str, tmp_path: Path, capsys: Captured) -> None:
    assert main([*words(tmp_path / "run"), "--dry-run", *more]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_directory_with_a_run_is_refused(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert main([*words(tmp_path / "run"), "--dry-run"]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    identity = identity_of(*SMALL)
    with pytest.raises(UserError, match="start it without torchrun"):
        tried(identity, in_this_process=True)


def test_the_price_is_that_of_steps_validations_and_the_meta_test() -> None:
    assert TRIAL.seconds == 4 + 99 * 3 + 5 * 40 * 0.5 + 60 * 0.5
    assert TRIAL.likely == (TRIAL.seconds - 99, TRIAL.seconds + 99)  # the quarters are at 2 and 4 s
    assert replace(TRIAL, steps=(), max_steps=1).seconds == 4 + 100 + 30
    text = "\n".join(described(TRIAL))
    assert "about 7.2 min (5.5 min to 8.8 min)" in text
    assert (
        "4.0 s to the second outer step, 5 min for 101 outer steps, 1.7 min for 5 validations, 30 s for the meta-test" in text
    )
    assert "about 1.50 GiB of this machine" in text
    assert "patience" not in text
    early = "\n".join(described(replace(TRIAL, patience=True, on_device=True)))
    assert "at most about 7.2 min" in early
    assert "patience may end the run earlier" in early
    assert "of a GPU" in early


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (8.26, "8.3 s"), (75, "75 s"), (150, "2.5 min"), (1800, "30 min"), (9000, "2.5 h")]
)
def test_a_time_has_no_more_digits_than_it_deserves(seconds: float, text: str) -> None:
    assert rough(seconds) == text
