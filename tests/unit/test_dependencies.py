"""Versions in pyproject.toml and constraints.txt."""

import os
import re
import subprocess
import sys
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


def test_without_a_pre_release_of_hydra_test_next_says_that_nothing_was_tested(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    script = ["sh", str(ROOT / "tests" / "next.sh"), str(tmp_path / "venv")]
    ended = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert (
        "hydra-core>=1.4.0.dev0 cannot be had from the package index of pip's settings, so nothing was tested" in ended.stderr
    )
    assert not list(tmp_path.iterdir())


def test_the_container_has_the_torch_of_a_clone_and_copies_what_there_is() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    pins = {
        name: re.findall(r"torch==([\d.]+)", (ROOT / name).read_text()) for name in ("Dockerfile", "Makefile", "tests/next.sh")
    }
    assert pins["Dockerfile"] == pins["tests/next.sh"] == pins["Makefile"] != []
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
