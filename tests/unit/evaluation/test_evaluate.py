"""``metaloop evaluate``: a finished run on other episodes, other data, with other adaptation."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.evaluation.evaluate import changed, evaluate
from small_runs import SMALL_CONF, Blobs, rows, trained, words

Captured = pytest.CaptureFixture[str]
CONFIG_DIR = ["--config-dir", str(SMALL_CONF)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to evaluate in many ways."""
    directory = tmp_path_factory.mktemp("evaluated") / "run"
    assert main(words(directory)) == 0
    return directory


def evaluated(run: Path, *argv: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The record and the episodes' rows of ``metaloop evaluate``."""
    before = set((run / "evaluations").glob("*"))
    assert main(["evaluate", f"run={run}", *argv]) == 0
    (target,) = set((run / "evaluations").glob("*")) - before
    assert (target / "report" / "index.html").exists()
    return json.loads((target / "record.json").read_text()), rows(target / "episodes.csv")


def refused(capsys: Captured, *argv: str) -> str:
    capsys.readouterr()
    assert main(["evaluate", *argv]) == 2
    return capsys.readouterr().err


def test_as_it_was_it_scores_as_the_run_did(run: Path) -> None:
    before = (run / "record.json").read_bytes()
    record, episodes = evaluated(run)
    own = json.loads(before)
    assert episodes == rows(run / "episodes.csv")
    assert record["test"] == own["test"]
    assert (run / "record.json").read_bytes() == before


def test_otherwise_it_has_the_size_the_steps_and_the_number_of_episodes_that_were_asked_for(run: Path) -> None:
    record, episodes = evaluated(run, "episode.shots=2", "evaluation.episodes=20", "algorithm.eval_steps=3")
    test = record["test"]
    assert (test["shots"], test["ways"], test["episodes"], test["steps"]) == (2, 3, 20, 3)
    assert [point["step"] for point in test["curve"]] == [0, 1, 2, 3]
    assert len(episodes) == 20
    assert record["overrides"] == ["episode.shots=2", "evaluation.episodes=20", "algorithm.eval_steps=3"]
    assert record["config"]["episode"]["shots"] == 2


def test_more_episodes_begin_with_the_runs_own(run: Path) -> None:
    _, episodes = evaluated(run, "evaluation.episodes=9")
    assert episodes[:6] == rows(run / "episodes.csv")


def test_fewer_ways_than_the_head_has(run: Path) -> None:
    record, _ = evaluated(run, "episode.ways=2")
    assert record["test"]["ways"] == 2


def test_another_data_set_of_the_users_own(run: Path) -> None:
    record, episodes = evaluated(run, *CONFIG_DIR, "dataset=blobs", "dataset.drawings=9")
    assert record["choices"]["dataset"] == "blobs"
    assert episodes != rows(run / "episodes.csv")


def test_only_the_test_split_is_drawn_from(run: Path) -> None:
    Blobs.drawn.clear()
    evaluated(run, "evaluation.episodes=7")
    assert {split for split, _ in Blobs.drawn} == {"test"}


def test_settings_are_chosen_on_the_episodes_of_meta_validation_without_opening_the_test(run: Path, capsys: Captured) -> None:
    Blobs.drawn.clear()
    record, _ = evaluated(run, "split=validation", "evaluation.episodes=4")
    assert {split for split, _ in Blobs.drawn} == {"validation"}
    assert record["test"]["split"] == "validation"
    assert record["overrides"] == ["evaluation.episodes=4", "split=validation"]
    kept = json.loads((run / "record.json").read_text())["training"]
    assert record["test"]["mean"] == pytest.approx(kept["best_validation"])
    assert "meta-validation accuracy" in capsys.readouterr().out


def test_another_data_set_is_scored_in_meta_validation_without_opening_its_test(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    contents = Blobs.contents
    monkeypatch.setattr(Blobs, "contents", lambda self, split: opened.append(split) or contents(self, split))
    evaluated(run, *CONFIG_DIR, "dataset=blobs", "dataset.drawings=9", "split=validation")
    assert opened
    assert "test" not in opened


def test_a_published_number_does_not_stand_beside_a_score_of_meta_validation(run: Path, tmp_path: Path) -> None:
    paper = {"citation": "One 2020", "table": "1", "published": {"mean": 0.5}, "mark": "M", "tolerance": 0.1}
    copy = shutil.copytree(run, tmp_path / "run")
    identity = json.loads((copy / "run.json").read_text())
    identity["config"]["paper"] = paper
    (copy / "run.json").write_text(json.dumps(identity))
    assert evaluated(copy, "evaluation.episodes=3")[0]["paper"]["citation"] == "One 2020"
    assert evaluated(copy, "evaluation.episodes=3", "split=validation")[0]["paper"] is None


def test_a_fixed_inner_rate_is_another_at_test(run: Path) -> None:
    own, other = (evaluated(run, f"algorithm.rule.lr={rate}", "evaluation.episodes=12")[0] for rate in (0.4, 1e-6))
    assert own["test"]["mean"] > 0.4
    before, after = (point["mean"] for point in other["test"]["curve"])
    assert before == after == own["test"]["curve"][0]["mean"]
    with pytest.raises(UserError, match="no fixed rate"):
        changed(
            {"algorithm": {"rule": {"_target_": "metaloop.inner.rules.learned_rates.LearnedRate"}}}, ["algorithm.rule.lr=1"]
        )


def test_what_two_ranks_would_do_is_done_in_one_process(run: Path) -> None:
    evaluated(run, "trainer=ddp_cpu", "evaluation.episodes=8")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["seed=1"], "train a new run"),
        (["outer.optimizer.lr=1"], "train a new run"),
        (["model=conv4"], "train a new run"),
        (["algorithm=fomaml"], "train a new run"),
        (["outer.meta_batch=3"], "train a new run"),
        (["+episode.colour=3"], "train a new run"),
        (["episode.shot=3"], "episode.shots"),
        (["dataset.colour=3"], "drawings"),
        (["split=train"], "split=train: test or validation"),
        (["evaluation.episodes=many"], "a whole number"),
        (["evaluation.episodes=1,2"], "evaluate once for each"),
        (["dataset=glpyhs"], "glyphs"),
        (["episode.ways=4"], "the model's head was made for 3 ways"),
        (["episode.ways=7"], "has only 6 classes"),
        (["episode.shots=7"], "class 'test0' of the test split has only 8"),
        (["dataset.side=20"], "was trained on inputs of shape"),
        (["dataset=sinusoid", "episode=regression"], "was trained on tasks of classification"),
        (["model.norm=batch"], "does not fit the model"),
        (["trainer=gpu"], "trainer=cpu"),
        (["--config-dir", "nowhere"], "no such folder"),
    ],
)
def test_what_cannot_be_is_refused(
    argv: list[str], expected: str, run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    before = set((run / "evaluations").glob("*/record.json"))
    said = refused(capsys, f"run={run}", *argv)
    assert expected in said
    assert "Traceback" not in said
    assert set((run / "evaluations").glob("*/record.json")) == before


def test_one_run_must_be_named(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert "name one run" in refused(capsys)
    assert "name one run" in refused(capsys, f"run={run}", f"run={run}")
    assert "is no run directory" in refused(capsys, f"run={tmp_path}")


def test_a_checkpoint_of_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    trained(tmp_path / "other", "seed=5")
    directory = tmp_path / "mixed"
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "run.json").write_bytes((run / "run.json").read_bytes())
    os.link(tmp_path / "other" / "checkpoints" / "best.ckpt", directory / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match="of another config"):
        evaluate(directory, [], unfinished=True)


def test_a_run_without_a_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    with pytest.raises(UserError, match="no checkpoint at"):
        evaluate(tmp_path, [], unfinished=True)


def test_a_run_that_is_not_finished_is_evaluated_only_where_the_user_says_so(
    run: Path, tmp_path: Path, capsys: Captured
) -> None:
    stopped = shutil.copytree(run, tmp_path / "stopped", ignore=shutil.ignore_patterns("record.json", "evaluations"))
    said = refused(capsys, f"run={stopped}")
    assert f"metaloop train resume={stopped}" in said
    assert "unfinished=true" in said
    assert "unfinished=maybe: must be true or false" in refused(capsys, f"run={stopped}", "unfinished=maybe")
    record, episodes = evaluated(stopped, "unfinished=true")
    assert record["status"] == "unfinished"
    assert record["overrides"] == []
    assert episodes == rows(run / "episodes.csv")


def test_keys_are_those_of_the_runs_own_choices(run: Path) -> None:
    config = json.loads((run / "run.json").read_text())["config"]
    assert "side" in config["dataset"]  # which the default data set does not have
    assert changed(config, ["dataset.side=16", "episode.ways=[2,3]"])["episode"]["ways"] == [2, 3]
    assert config["episode"]["ways"] == 3


@pytest.mark.data
def test_the_omniglot_challenge_prints_an_error_rate(
    real_data: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METALOOP_DATA", str(real_data))
    assert main(words(tmp_path / "run", "algorithm=prototypes", "dataset.side=28")) == 0
    record, episodes = evaluated(tmp_path / "run", "dataset=omniglot_challenge", "evaluation.episodes=600")
    test = record["test"]
    assert (test["ways"], test["shots"], test["queries"], test["episodes"]) == (20, 1, 1, 20)
    assert f"{100 * (1 - test['mean']):.2f} %" in capsys.readouterr().out
    assert len(episodes) == 20
    assert test["baseline"]["mean"] == pytest.approx(0.21, abs=0.02)  # nearest neighbours err in 79 % of the trials


def test_another_part_adapts_at_test_than_in_training(run: Path, capsys: Captured) -> None:
    whole, _ = evaluated(run, "algorithm/adapted=all", "evaluation.episodes=11")
    head, _ = evaluated(run, "algorithm/adapted=head", "evaluation.episodes=11")
    assert head["config"]["algorithm"]["adapted"]["_target_"].endswith(".Head")
    assert head["choices"]["algorithm/adapted"] == "head"
    starts = [record["test"]["curve"][0]["mean"] for record in (whole, head)]
    losses = [record["test"]["others"]["loss"]["mean"] for record in (whole, head)]
    assert starts[0] == starts[1]  # the same parameters
    assert losses[0] != losses[1]
    assert "algorithm/adapted (all, head, body)" in refused(capsys, f"run={run}", "algorithm/adapted=low_rank")


def test_running_averages_are_left_out_in_another_norm_mode(tmp_path: Path) -> None:
    network = ("model=conv4", "model.filters=2", "model.kernels=false")
    assert main(words(tmp_path / "run", *network, "model.norm=running")) == 0
    record, _ = evaluated(tmp_path / "run", "model.norm=batch")
    assert (record["test"]["norm_mode"], record["test"]["transductive"]) == ("batch", True)
