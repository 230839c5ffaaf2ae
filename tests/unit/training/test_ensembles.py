"""A run's meta-test with the mean of its best checkpoints' answers."""

import copy
import json
from pathlib import Path

import pytest
import torch

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.learners.ensemble import Ensemble
from metaloop.system.tensors import load_checkpoint
from metaloop.training.checkpoints import top_checkpoints
from metaloop.training.ensembles import ensemble
from small_runs import words


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ensemble") / "run"
    assert main(words(directory, "evaluation.ensemble=2")) == 0
    return directory


def test_C3_the_ensemble_is_the_mean_of_the_best_checkpoints_answers(run: Path) -> None:
    paths = top_checkpoints(run / "checkpoints")
    assert len(paths) == 2
    opened = FinishedRun.open(run)
    test = opened.test()
    learner = ensemble(test.learner, run / "checkpoints", 2, opened.identity.fingerprint).eval()
    tasks = test.episodes.tasks(torch.arange(3))
    answers = []
    for path in paths:
        alone = copy.deepcopy(test.learner)
        state = {name.removeprefix("learner."): value for name, value in load_checkpoint(path)["state_dict"].items()}
        alone.load_state_dict(state)
        answers.append(alone.eval().adapt(tasks.support).curve(tasks.query.x))
    assert not torch.equal(*answers)
    predictor = learner.adapt(tasks.support)
    torch.testing.assert_close(predictor.curve(tasks.query.x), (answers[0] + answers[1]) / 2)
    torch.testing.assert_close(predictor(tasks.query.x), ((answers[0] + answers[1]) / 2)[-1])
    with pytest.raises(UserError, match=r"evaluation\.ensemble"):
        learner.meta_loss(tasks)


def test_C3_the_test_in_training_is_that_of_evaluate_and_not_the_best_alone(run: Path) -> None:
    scored = json.loads((run / "record.json").read_text())["test"]
    assert main(["evaluate", f"run={run}"]) == 0
    assert main(["evaluate", f"run={run}", "evaluation.ensemble=1"]) == 0
    found = {}
    for path in (run / "evaluations").glob("*/record.json"):
        record = json.loads(path.read_text())
        found[record["config"]["evaluation"]["ensemble"]] = record["test"]
    assert found[2]["curve"] == scored["curve"]
    assert found[2]["steps"] == scored["steps"] == 1
    assert set(found) == {1, 2}


def test_C3_a_run_that_kept_none_says_so(run: Path, tmp_path: Path) -> None:
    opened = FinishedRun.open(run)
    with pytest.raises(UserError, match=r"evaluation\.ensemble=2: .* holds 0 checkpoints"):
        ensemble(opened.test().learner, tmp_path, 2, opened.identity.fingerprint)
    assert isinstance(ensemble(opened.test().learner, run / "checkpoints", 5, opened.identity.fingerprint), Ensemble)
