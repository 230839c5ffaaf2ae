"""Runs of a package and a configuration folder of the user's own: every command opens them, and the record names the folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.records.reading import read_record
from small_runs import QUIET

SHORT = (
    "name=small", "dataset=tabular", "model=desknet", "algorithm/over_tasks=loop", "episode=2w5s", "episode.shots=2",
    "episode.queries=2", "outer.meta_batch=2", "trainer.max_steps=2", "validation.every=2", "validation.episodes=2",
    "evaluation.episodes=3",
)  # fmt: skip
TABLE = "label,a,b\n0,1.0,2.0\n0,1.1,2.1\n1,3.0,0.5\n1,3.1,0.4\n"
NET = "from metaloop.models.mlp import MLP\n\n\nclass Net(MLP):\n    pass\n"
COMMANDS = {
    "evaluate": ["evaluate", "run=run"],
    "predict run": ["predict", "run=run", "support=table.csv", "query=table.csv"],
    "predict model": ["predict", "model=kept", "query=table.csv"],
    "inspect": ["inspect", "run", "--episodes", "2"],
    "compare": ["compare", "run", "run"],
    "resume": ["train", "resume=cut"],
}


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one that has not met the package."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "deskpkg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "lab" not in Path(place).name])


def _git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run ``run``, a run without its record ``cut``, and a kept model ``kept``; look, but change nothing."""
    place = tmp_path_factory.mktemp("desk")
    (place / "lab" / "deskpkg").mkdir(parents=True)
    (place / "lab" / "deskpkg" / "__init__.py").write_text("")
    (place / "lab" / "deskpkg" / "nets.py").write_text(NET)
    (place / "lab" / "conf" / "model").mkdir(parents=True)
    option = "_target_: deskpkg.nets.Net\nhidden: [8]\nnorm: none\n"
    (place / "lab" / "conf" / "model" / "desknet.yaml").write_text(option)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "nets"]):
        _git(place / "lab", *words)
    (place / "lab" / "conf" / "model" / "new.yaml").write_text(option)  # git does not know it yet
    (place / "table.csv").write_text(TABLE)
    ours = ["--config-dir", str(place / "lab" / "conf")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        patch.setenv("PYTHONPATH", "")
        _forget(patch)
        assert main(["train", *ours, *SHORT, *QUIET, f"hydra.run.dir={place / 'run'}"]) == 0
        table = f"support={place / 'table.csv'}"
        assert main(["predict", f"run={place / 'run'}", table, f"save={place / 'kept'}", *ours]) == 0
        _forget(patch)
    shutil.copytree(place / "run", place / "cut")
    (place / "cut" / "record.json").unlink()
    shutil.rmtree(place / "cut" / "report")
    return place


@pytest.fixture
def desk(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("PYTHONPATH", "")
    _forget(monkeypatch)
    return tmp_path / "desk"


@pytest.mark.parametrize("command", COMMANDS)
def test_F9_every_command_finds_the_package_beside_the_folder_and_names_the_remedy(
    command: str, desk: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = COMMANDS[command]
    remedy = f"--config-dir {made / 'lab' / 'conf'}" if command != "predict model" else "--config-dir DIR"
    alone = main(words)
    captured = capsys.readouterr()
    if command == "compare":  # its page then shows the records alone
        assert alone == 0
        assert remedy in Path("comparison/index.html").read_text()
    else:
        assert alone == 2
        assert remedy in captured.err
        assert "torch" not in captured.err
    assert main([*words, "--config-dir", "lab/conf"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_F9_a_folder_is_not_trusted_by_being_named(
    command: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "another")
    words = [*COMMANDS[command], "--config-dir=lab/conf"]
    assert main(words) == 2
    assert "trust=deskpkg" in capsys.readouterr().err
    assert "deskpkg.nets" not in sys.modules
    if command == "evaluate":
        assert main([*words, "trust=deskpkg"]) == 0, capsys.readouterr().err


def test_F9_the_record_says_commit_and_changes_of_the_folder(made: Path) -> None:
    code = {code.package: code for code in read_record(made / "run").code}
    folder = code[str(made / "lab" / "conf")]
    assert folder.git is not None
    assert (folder.git.commit, folder.git.dirty) == (_git(made / "lab", "rev-parse", "HEAD"), True)
    assert code["deskpkg"].git is not None
    assert not code["deskpkg"].git.dirty
    assert folder.digest != code["deskpkg"].digest


def test_F9_a_folder_that_does_not_exist_is_refused(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "run", "-cd", "labb/conf"]) == 2
    assert "--config-dir labb/conf: there is no such folder" in capsys.readouterr().err
    assert main(["inspect", "run", "--config-dir"]) == 2
    assert "--config-dir DIR" in capsys.readouterr().err
