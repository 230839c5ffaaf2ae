"""A learner, a model and a data set from a package of the user's own, without touching this repository."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.inner.execution.over_tasks import Loop
from metaloop.problems.task_loss import CrossEntropy
from metaloop.testing import check_comparison, check_dataset, check_learner, check_model
from metaloop.types import EpisodeSpec

MYLAB = Path(__file__).parent / "mylab"
OURS = ["--config-dir", str(MYLAB / "conf")]
CHOSEN = ["model=tinynet", "dataset=coins", "episode.queries=5", "log_every=10"]
SHORT = ["trainer.max_steps=60", "validation.every=30", "validation.episodes=20", "evaluation.episodes=50"]
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


@pytest.fixture(autouse=True)
def _at_the_users_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)  # another test may have found the folder instead of the package
    monkeypatch.syspath_prepend(MYLAB)
    monkeypatch.chdir(tmp_path)


def only_record(root: Path) -> tuple[Path, dict]:
    (path,) = root.glob("outputs/*/*/record.json")
    return path.parent, json.loads(path.read_text())


@pytest.mark.parametrize("algorithm", ["maml", pytest.param("anil", marks=pytest.mark.slow), "cosine", "manhattan"])
def test_model_and_data_set_learn_with_any_learner(algorithm: str, tmp_path: Path) -> None:
    more = [] if algorithm == "cosine" else ["algorithm/over_tasks=loop"]
    assert main(["train", *OURS, *CHOSEN, *SHORT, *QUIET, f"algorithm={algorithm}", *more]) == 0
    directory, record = only_record(tmp_path)
    assert record["choices"]["algorithm"] == algorithm
    assert record["test"]["mean"] > 0.3  # chance is 0.2
    assert main(["evaluate", f"run={directory}", "episode.shots=5"]) == 0


@pytest.mark.parametrize(
    "file", ["mylab/manhattan.py", "conf/algorithm/manhattan.yaml", "conf/algorithm/comparison/manhattan.yaml"]
)
def test_the_guide_shows_the_metric_learner_that_is_run_here(file: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "adding.md").read_text()
    assert f"\n{(MYLAB / file).read_text()}```" in guide


def test_a_program_of_its_own_runs_them(tmp_path: Path) -> None:
    """As typed in a shell, through ``python -m metaloop.cli.hydra_entry``."""
    command = [sys.executable, "-m", "metaloop.cli.hydra_entry", *OURS, *CHOSEN, *SHORT, "algorithm=cosine"]
    environment = os.environ | {"PYTHONPATH": str(MYLAB)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    directory, record = only_record(tmp_path)
    assert f"{100 * record['test']['mean']:.2f} ±" in done.stdout
    assert str(directory.relative_to(tmp_path)) in done.stdout


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models", *OURS]) == 0
    assert "tinynet\tone hidden layer" in capsys.readouterr().out


def test_a_package_that_is_not_on_the_path_is_said_to_be_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package beside its folder of configuration would be found."""
    shutil.copytree(MYLAB / "conf", tmp_path / "elsewhere" / "conf")
    ours = ["--config-dir", str(tmp_path / "elsewhere" / "conf")]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(MYLAB)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["train", *ours, *CHOSEN, *SHORT, *QUIET, "algorithm=cosine"]) == 2
    assert "mylab" in capsys.readouterr().err


def test_A8_they_keep_the_contracts() -> None:
    """What docs/adding.md tells users to run on their own classes."""
    from mylab.coins import Coins
    from mylab.cosine import Cosine
    from mylab.manhattan import Manhattan
    from mylab.nets import TinyNet

    check_model(partial(TinyNet, width=8), (16,))
    check_dataset(Coins(classes=8, tosses=20), EpisodeSpec(ways=5, shots=2, queries=3))
    check_comparison(Manhattan(scale=0.1))
    check_learner(Cosine(TinyNet((16,), None, width=8), CrossEntropy(), Loop(), scale=5.0), (16,))
