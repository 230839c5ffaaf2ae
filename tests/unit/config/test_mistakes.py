"""Mistakes of a command line: each is answered in a line or two with the fix, at once, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import metaloop
from metaloop.cli.main import main
from metaloop.errors import UserError
from small_runs import words

# What is typed (RUN is a finished run), and the words of the answer that matter.
MISTAKES = {
    # groups and options
    "train algoritm=anil": "did you mean algorithm?",
    "train algorithm=mamml": "did you mean maml",
    "train algorithm=MAML": "did you mean maml",
    "train algorithm=protonet": "did you mean prototypes?",
    "train algorithm=maml,anil": "add -m, or give one option",
    "train algorithm=[maml,anil]": "metaloop train -m algorithm=maml,anil",
    "train +algorithm=anil": "change it with algorithm=anil",
    "train +experiment=finn2017_maml_sinusoid_5shot": "change it with experiment=finn2017_maml_sinusoid_5shot",
    "train experiment=finn2017": "did you mean finn2017_joint_navigation or finn2017_joint_sinusoid_5shot or finn2017_",
    "train dataset=mini-imagenet": "did you mean mini_imagenet?",
    "train model=resnet": "did you mean resnet12 or resnet18?",
    "train episode=5way1shot": "did you mean 5w1s?",
    "train trainer=cuda": "did you mean gpu?",
    "train algorithm.meta_gradient=first_order": "choose it with algorithm/meta_gradient=first_order",
    "train algorithm/metagradient=first_order": "did you mean algorithm/meta_gradient?",
    "train algorithm/rule=sgd": "did you mean gradient_descent?",
    "train dataset/augmentation=flip_crop": "dataset/augmentation: this dataset has no such group",
    # keys
    "train lr=0.1": "did you mean algorithm.rule.lr or outer.optimizer.lr?",
    "train inner_lr=0.1": "did you mean algorithm.rule.lr?",
    "train algorithm.inner_steps=5": "did you mean algorithm.steps?",
    "train epochs=10": "did you mean trainer.max_steps?",
    "train k_shot=5": "did you mean episode.shots?",
    "train batch_size=4": "did you mean outer.meta_batch?",
    "train episode.shot=5": "did you mean episode.shots?",
    "train sead=1": "did you mean seed",
    "train path=pictures dataset=image_folder": "did you mean dataset.path?",
    # values
    "train trainer.max_steps=0": "trainer.max_steps=0: a whole number of at least 1",
    "train trainer.max_steps=-1": "trainer.max_steps=-1: a whole number of at least 1",
    "train trainer.max_steps=1e5": "did you mean trainer.max_steps=100000?",
    "train trainer.max_steps=many": "expected a whole number, such as the default 400",
    "train seed=-1": "seed=-1: a whole number of at least 0",
    "train ++seed=1.5": "seed=1.5: a whole number",
    "train seed=0,1": "add -m, or give one value",
    "train name=a,b": """write 'name="a,b"'""",
    "train name=": "name is empty",
    "train episode.shots=0": "episode.shots=0: give a whole number of at least 1",
    "train episode.shots=[5,1]": "or a range [low, high]",
    "train episode.shots=1,5": "write episode.shots=[1,5]",
    "train episode.train.queries=0": "episode.train.queries=0: give a whole number",
    "train algorithm.steps=0": "algorithm.steps=0: a whole number of at least 1",
    "train algorithm.rule.lr=0": "algorithm.rule.lr=0: must be above 0",
    "train outer.optimizer.lr=-1": "outer.optimizer.lr=-1: must not be negative",
    "train outer.meta_batch=0": "outer.meta_batch=0: a whole number of at least 1",
    "train outer.schedule=cosine": "outer=adam_cosine",
    "train model.filters=0": "model.filters=0: a whole number of at least 1",
    "train validation.episodes=1": "validation.episodes=1: a whole number of at least 2",
    "train validation.patience=0": "validation.patience=0: a whole number of at least 1",
    "train trainer.precision=fp16": "must be one of 32-true, bf16-mixed, 16-mixed",
    "train trainer.accelerator=tpu": "must be one of cpu, gpu",
    "train tf32=yes": "expected true or false",
    # deletions
    "train ~trainer.max_steps": "trainer.max_steps is missing",
    "train ~log_every": "log_every is missing",
    "train ~outer": "outer is missing; every run has one: outer=...",
    # the command line itself
    "trian": "did you mean train?",
    "train --algorithm anil": "keys are written without dashes: algorithm=anil",
    "train -algorithm=anil": "keys are written without dashes: algorithm=anil",
    "train --epochs 10": "keys are written without dashes: trainer.max_steps=10",
    "train --config_dir conf": "did you mean --config-dir?",
    "train algorithm anil": "one word without blanks: algorithm=anil",
    "train algorithm = anil": "one word without blanks: algorithm=anil",
    "train maml": "did you mean algorithm=maml?",
    "train trainer.max_steps==10": "write one =, trainer.max_steps=10",
    "train --config-dir nowhere": "--config-dir nowhere: there is no such folder",
    "train hydra.run.dir=few.csv": "few.csv cannot be made (File exists)",
    # runs
    "train resume=nowhere": "there is no such folder",
    "train resume=true": "resume=auto",
    "train resume=": "resume=DIR needs a run directory",
    "train resume=RUN": "RUN is finished: see metaloop report RUN",
    "train resume=RUN/checkpoints/last.ckpt": "is a checkpoint; name its run: resume=RUN",
    "train RUN": "write resume=RUN",
    "evaluate": "name one run to evaluate",
    "evaluate RUN": "write run=RUN",
    "evaluate run=RUN/checkpoints/best.ckpt": "is a checkpoint; name its run, RUN",
    "evaluate run=RUN algorithm=anil": "for anything else train a new run",
    "evaluate run=RUN episode.shots=0": "episode.shots=0: give a whole number of at least 1",
    "evaluate run=RUN --episodes 5": "keys are written without dashes",
    "predict run=RUN": "support=FILE is needed",
    "predict run=nope support=few.csv query=few.csv": "nope is no run directory",
    "predict run=RUN support=nowhere.csv query=few.csv": "support=nowhere.csv: there is no such file",
    "predict run=RUN suport=few.csv query=few.csv": "did you mean support?",
    "predict model=nope query=few.csv": "model=nope holds no adapted model",
    "predict RUN": "write KEY=RUN",
    "inspect": "the following arguments are required: DIR",
    "inspect run=nowhere": "nowhere is no run directory",
    "compare RUN nowhere": "compare nowhere: there is no such folder",
    "report RUN --where seed": "write KEY=VALUE",
    "reproduce --seeds 0": "must be at least 1",
    # data and sweeps
    "train dataset=image_folder": "dataset.path is not set",
    "train dataset=image_folder dataset.path=nowhere": "dataset.path=nowhere: there is no such file or folder",
    "train dataset=text_files dataset.files=nowhere.csv": "dataset.files=nowhere.csv: there is no file nowhere.csv",
    "train dataset=text_files": "dataset.files: a value is needed; set it with dataset.files=...",
    "data download omniglot": "did you mean get?",
    "data omniglot": "write metaloop data ACTION [NAME]",
    "list algoritms": "did you mean algorithms",
    "list experiments fin2017": "no name begins so",
    "sweep five_choice": "did you mean five_choices?",
    "sweep seed=0,1": "metaloop train -m seed=0,1",
    "sweep five_choices trainer.max_steps=0 --dry-run": "trainer.max_steps=0: a whole number of at least 1",
    "train -m seed=0,1 algorithm=mamll": "did you mean maml",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> dict[str, dict[str, Any]]:
    """The answers to all mistakes, by what was typed."""
    typed = [line.replace("RUN", str(finished_run)).split() for line in MISTAKES]
    script = Path(__file__).parents[2] / "forked_answers.py"
    done = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(typed), capture_output=True, text=True, check=True, env=os.environ
    )
    return dict(zip(MISTAKES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", MISTAKES)
def test_F15_F16_a_mistake_is_answered_at_once_with_the_fix_and_leaves_nothing(
    line: str, answers: dict[str, dict[str, Any]], finished_run: Path
) -> None:
    answer = answers[line]
    error = answer["error"].replace(str(finished_run), "RUN")
    assert MISTAKES[line] in error
    assert len(error.strip().splitlines()) <= 2
    assert (answer["code"], answer["left"], answer["imported"]) == (2, [], [])


BUILT = {  # mistakes that only the built parts can tell
    "train trainer=gpu": "use trainer=cpu",
    "train episode.ways=1": "classification needs at least 2 ways",
    "train episode.ways=500": "the validation split has only 260 classes",
    "train model=tfidf": "try model=conv4",
    "train dataset=image_folder dataset.path=.": "holds no images",
    "train dataset=text_files dataset.files=few.csv model=conv4": "use a model with a tokenizer, such as model=minilm",
    "train dataset=text_files dataset.files=few.csv": "divides 3 classes into train 2, validation 0, test 1",
    "train dataset=omniglot": "metaloop data get omniglot",
    "train dataset=sinusoid": "use episode=regression",
    "train +model.blocks=9": "model cannot be built",
    "train +outer.optimizer.nesterov=1": "outer.optimizer",
    "data verify nothing": "data sets to download: omniglot",
}


@pytest.mark.parametrize("line", BUILT)
def test_F15_a_mistake_that_is_seen_late_leaves_no_run_folder(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METALOOP_DATA", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (tmp_path / "few.csv").write_text("text,label\n" + "".join(f"{word} {i},{word}\n" for word in "abc" for i in range(3)))
    assert main(line.split()) == 2
    error = capfd.readouterr().err
    assert BUILT[line] in error
    assert "Error executing job" not in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["few.csv"]


def test_F15_what_was_in_the_folder_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert main(["train", "episode.ways=500", "hydra.run.dir=run"]) == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    capfd.readouterr()


def test_F15_a_run_from_python_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ways=500"):
        metaloop.train(metaloop.compose("episode.ways=500", "name=python"), tmp_path / "runs" / "first")
    assert list(tmp_path.iterdir()) == []


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
