"""Versions in pyproject.toml and constraints.txt."""

import re
import tomllib
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import instantiate

ROOT = Path(__file__).parents[2]
FIRST_SAFE_HYDRA = (1, 3, 8)  # the first whose policy of targets is tested here


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_E11_every_hydra_that_is_allowed_refuses_to_run_commands(tmp_path: Path) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (floor,) = (match[1] for each in dependencies if (match := re.match(r"hydra-core>=([\d.]+)", each)))
    assert _version(floor) >= FIRST_SAFE_HYDRA
    (pinned,) = re.findall(r"^hydra-core==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert _version(pinned) >= _version(floor)
    for target in ("os.system", "subprocess.call", "builtins.exec"):
        with pytest.raises(InstantiationException, match=r"(block|black)listed"):
            instantiate({"_target_": target, "_args_": [f"touch {tmp_path / 'written'}"]})
    assert not list(tmp_path.iterdir())


def test_the_container_has_the_torch_of_a_clone_and_copies_what_there_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    pins = {name: re.findall(r"torch==([\d.]+)", (ROOT / name).read_text()) for name in ("Dockerfile", "Makefile")}
    assert pins["Dockerfile"] == pins["Makefile"] != []
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
