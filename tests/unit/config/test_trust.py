"""What a config from elsewhere may name, and whose configs need no trust."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from metaloop.config.targets.allowed import ENVIRONMENT
from metaloop.config.targets.refusals import Untrusted, refusals
from metaloop.config.targets.torch_classes import TORCH_CLASSES
from metaloop.config.trust import check_received, remember, remember_derived, trusting
from metaloop.errors import UserError

SOURCE = Path(__file__).parents[3] / "src" / "metaloop"
FILE = Path("run.json")
FOREIGN = {"model": {"_target_": "mylab.Net"}}


@pytest.fixture(autouse=True)
def _at_a_new_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def needs_trust(config: dict[str, Any]) -> bool:
    try:
        check_received(config, FILE)
    except Untrusted:
        return True
    return False


def test_E1_one_module_leads_from_files_to_configs_that_are_built() -> None:
    readers = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if "read_identity(" in path.read_text()}
    assert readers == {"config/trust.py", "records/reading.py", "records/directory.py"}  # the last compares fingerprints
    builders = {
        path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if re.search(r"\binstantiate\(", path.read_text())
    }
    assert builders == {"config/build.py"}


def test_the_classes_of_torch_exist_and_are_classes() -> None:
    for name in TORCH_CLASSES - {"pytorch_lightning.Trainer"}:
        parent: Any = torch
        for part in name.split(".")[1:]:
            parent = getattr(parent, part)
        assert isinstance(parent, type), name


def test_own_configs_are_remembered_and_harmless_ones_need_not_be(tmp_path: Path) -> None:
    remember({"model": {"_target_": "torch.nn.Linear"}})
    assert not list(tmp_path.iterdir())
    assert needs_trust(FOREIGN)
    remember(FOREIGN)
    remember(FOREIGN)
    assert not needs_trust(FOREIGN)
    assert needs_trust({**FOREIGN, "seed": 1})
    (kept,) = tmp_path.rglob("composed")
    assert kept.read_text().count("\n") == 1


def test_what_is_made_from_a_strangers_config_stays_a_strangers() -> None:
    changed = {**FOREIGN, "seed": 1}
    remember_derived(changed, FOREIGN)
    assert needs_trust(changed)
    remember(FOREIGN)
    remember_derived(changed, FOREIGN)
    assert not needs_trust(changed)


def test_without_a_state_folder_trust_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember(FOREIGN)
    assert needs_trust(FOREIGN)
    with trusting(["a=1", "trust=mylab,other"]) as words:
        assert words == ["a=1"]
        assert not needs_trust(FOREIGN)
    assert needs_trust(FOREIGN)


@pytest.mark.parametrize("name", ["", "a b", "-x", "os;", "a.", "../x"])
def test_a_name_of_no_package_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="must be the name of a package"), trusting([f"trust={name}"]):
        pass


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"a": [{"b": ({"_target_": "x"},)}]}, 1),
        ({"${oc.env:HOME}": 1}, 1),
        ({"_target_": None, "a": "${b}", "cache_dir": "x"}, 3),
        ({"cache_dir": None, "trainer": {"max_steps": 5, "precision": "32-true", "callbacks": []}}, 0),
        ({"trainer": {"profiler": "simple", "callbacks": [{"_target_": "x"}]}}, 3),
        ({"model": {"_target_": "metaloop.models.mlp.MLP"}, "b": {"_target_": "metaloop.models.mlp.MLP.__init__"}}, 1),
    ],
)
def test_every_reason_is_found(config: dict[str, Any], count: int) -> None:
    assert len(refusals(config, FILE)) == count
