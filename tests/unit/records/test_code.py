"""The record says which code of the user's own package ran."""

import subprocess
import sys
from pathlib import Path

import pytest

from metaloop.records.code import code_of, framework
from metaloop.records.reading import read_record
from metaloop.records.schema import Code
from small_runs import SMALL_CONF, trained

NET = "from metaloop.models.mlp import MLP\n\n\nclass Net(MLP):\n    pass\n"


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lab" / "labnets"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(NET)
    monkeypatch.syspath_prepend(str(tmp_path / "lab"))
    for name in ("labnets", "labnets.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def described(config: dict[str, object]) -> Code:
    __import__("labnets.nets")
    (code,) = code_of(config)
    return code


CONFIG: dict[str, object] = {"model": {"_target_": "labnets.nets.Net"}, "algorithm": {"_target_": "metaloop.learners.A"}}


def test_F9_repository_commit_and_dirt_of_a_users_package(package: Path) -> None:
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-qm", "nets")
    git(package.parent, "remote", "add", "origin", "https://me:secret@example.org/lab.git")
    clean = described(CONFIG)
    assert clean.git is not None
    assert (clean.package, clean.repository) == ("labnets", "https://example.org/lab.git")
    assert (clean.git.commit, clean.git.dirty) == (git(package.parent, "rev-parse", "HEAD"), False)
    (package / "more.py").write_text("x = 1\n")
    dirty = described(CONFIG)
    assert dirty.git is not None
    assert dirty.git.dirty
    assert dirty.digest != clean.digest


def test_F9_a_package_that_no_repository_has_is_known_by_its_digest(package: Path) -> None:
    git(package.parent, "init", "-q")
    first = described(CONFIG)
    assert (first.git, len(first.digest or "")) == (None, 64)
    (package / "nets.py").write_text(NET + "\n")
    assert described(CONFIG).digest != first.digest


def test_F9_of_an_installed_package_the_version_is_told() -> None:
    import transformers

    assert code_of({"model": {"_target_": "transformers.BertModel"}, "other": [{"_target_": "torch.nn.Linear"}]}) == (
        Code("transformers", transformers.__version__, None, None, None),
    )
    assert framework() is None or len(framework().commit) == 40  # type: ignore[union-attr]


def test_F9_it_stands_in_the_record(package: Path, tmp_path: Path) -> None:
    trained(tmp_path / "run", "model._target_=labnets.nets.Net")
    packages = {code.package: code for code in read_record(tmp_path / "run").code}
    assert sorted(packages) == [str(SMALL_CONF), "labnets", "small_runs"]
    code = packages["labnets"]
    assert code.text.endswith(f"digest {code.digest[:12]}")  # type: ignore[index]
