"""What a config of the user's own may call, and how the user extends the list."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.cli.main import main
from metaloop.config.build import make
from metaloop.config.folder import conf_dir
from metaloop.config.targets.allowed import ENVIRONMENT, check_identity, check_targets, named_targets
from metaloop.config.targets.torch_classes import TORCH_CLASSES
from metaloop.errors import UserError
from small_runs import described, words

TOOLS = "import os\nimport torch\nfrom numpy import zeros\nfrom torch.nn import Linear\n\n\ndef made(path): os.makedirs(path)\n"


@pytest.fixture(autouse=True)
def _nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.fixture
def ownlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of the user's own, which must not be imported where only names are checked."""
    (tmp_path / "ownlab").mkdir()
    (tmp_path / "ownlab" / "__init__.py").write_text("")
    (tmp_path / "ownlab" / "tools.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("ownlab", "ownlab.tools"):
        __import__("sys").modules.pop(name, None)


def test_targets_are_found_with_their_keys() -> None:
    config = {"a": {"_target_": "x", "b": [{"_target_": "y"}, 1]}, "_target_": None}
    assert list(named_targets(config)) == [("a._target_", "x"), ("a.b.0._target_", "y")]


OWN = ["metaloop.models.mlp.MLP", "ownlab.tools.made", "nowhere.Net", "__main__.Net"]


@pytest.mark.usefixtures("ownlab")
@pytest.mark.parametrize("target", [*sorted(TORCH_CLASSES), *OWN])
def test_the_framework_and_own_code_are_on_the_list(target: str) -> None:
    check_targets({"model": {"_target_": target}})
    assert "ownlab" not in __import__("sys").modules


def test_every_target_of_our_own_configuration_is_on_the_list() -> None:
    texts = {path: path.read_text() for path in conf_dir().rglob("*.yaml")}
    names = [
        (path.name, name) for path, text in texts.items() for name in re.findall(r"^\s*_target_: *([\w.]+)", text, re.MULTILINE)
    ]
    assert len(names) > 100
    for path, name in names:
        check_targets({path: {"_target_": name}})


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("os.makedirs", "os is a module of Python that a config may not call"),
        ("builtins.eval", "builtins is a module of Python"),
        ("torch.load", "torch is an installed package"),
        ("torch.optimal", "torch is an installed package"),
        ("numpy.load", "numpy is an installed package that a config may not call"),
    ],
)
def test_others_are_refused_until_they_are_trusted(target: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"logger": {"mine": [{"_target_": target}]}}
    package = target.partition(".")[0]
    with pytest.raises(UserError, match=rf"logger\.mine\.0\._target_={target}: {reason}.*add trust={package} "):
        check_targets(config)
    check_targets(config, known=config)
    monkeypatch.setenv(ENVIRONMENT, f"other, {package}")
    check_targets(config)
    monkeypatch.setenv(ENVIRONMENT, "all")
    check_targets(config)


@pytest.mark.parametrize(
    ("target", "home"),
    [
        ("ownlab.tools.os.makedirs", "os.makedirs"),
        ("ownlab.tools.zeros", "numpy.zeros"),
        ("metaloop.system.files.os.makedirs", "os.makedirs"),
        ("torch.nn.modules.module.torch.load", "torch.serialization.load"),
        ("ownlab.tools.torch.save", "torch.serialization.save"),
    ],
)
def test_a_name_that_leads_out_of_the_list_is_refused(target: str, home: str, ownlab: Path) -> None:
    check_targets({"a": {"_target_": target}})
    with pytest.raises(UserError, match=rf"a\._target_={target}: this is {home}"):
        make({"_target_": target, "_args_": [str(ownlab / "written")]}, "a")
    assert not (ownlab / "written").exists()


@pytest.mark.usefixtures("ownlab")
def test_a_class_of_the_list_under_a_name_of_ones_own_is_built() -> None:
    assert isinstance(make({"_target_": "ownlab.tools.Linear", "in_features": 2, "out_features": 1}, "model"), torch.nn.Linear)
    check_identity("a", "ownlab.tools.x", object())  # an object is what its package made of it


def test_a_run_is_refused_before_it_starts_and_takes_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = "+callbacks.mine={_target_:collections.Counter}"
    assert main(words(tmp_path / "run", callback)) == 2
    assert "callbacks.mine._target_=collections.Counter: collections is a module of Python" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(words(tmp_path / "run", callback, "trust=collections")) == 2  # a callback must be Lightning's
    assert "callbacks.mine._target_=collections.Counter: must be a pytorch_lightning" in capsys.readouterr().err


def test_sweeps_take_trust_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ["sweep", "first_order", "--dry-run", "seed=0", "+callbacks.mine={_target_:collections.Counter}"]
    assert main(sweep) == 2
    assert "add trust=collections" in capsys.readouterr().err
    assert main([*sweep, "trust=collections"]) == 2  # the dry run builds it: it is trusted, and no callback
    assert "callbacks.mine._target_=collections.Counter: must be a pytorch_lightning" in capsys.readouterr().err


def test_every_config_of_ones_own_passes_this_door() -> None:
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metaloop.config.identity.check_targets", found.append)
        described("algorithm=maml")
    assert len(found) == 1
