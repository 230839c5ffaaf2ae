"""``metaloop doctor``: every part of the report, and that nothing missing makes it fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from metaloop.cli import doctor
from metaloop.cli.main import main

Captured = pytest.CaptureFixture[str]


def told(capsys: Captured, *argv: str) -> dict[str, Any]:
    assert main(["doctor", "--json", *argv]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def test_every_part_is_looked_into(capsys: Captured, tmp_path: Path) -> None:
    facts = told(capsys, "--data-dir", str(tmp_path))
    assert {name: rows["cannot be determined"] for name, rows in facts.items() if "cannot be determined" in rows} == {}
    assert {"metaloop", "commit", "python", "torch"} <= facts["versions"].keys()
    assert 1 <= facts["processor"]["cores for this process"] <= facts["processor"]["cores"]
    assert str(tmp_path) in facts["disk"]["data"]
    assert facts["data sets"]["omniglot"].startswith("0 of ")
    assert facts["extras"]["search"] == "installed"
    assert facts["threads"]["torch"] >= 1


def test_the_text_has_a_line_for_each_fact(capsys: Captured) -> None:
    facts = told(capsys)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(facts) + sum(map(len, facts.values()))
    assert f"  model {'':<{len('memory limit by control group') - 5}} {facts['processor']['model']}" in lines


def test_a_machine_without_compiler_slurm_or_key(capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CXX", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    facts = told(capsys)
    assert facts["kernels"] == {"C++ compiler": None}
    assert facts["launchers"]["Slurm (sbatch)"] is None
    assert facts["versions"]["commit"] is None


def test_what_is_broken_is_said_and_the_rest_is_there(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Facts:
        raise OSError("the disk is gone")

    monkeypatch.setattr(doctor, "_system", broken)
    facts = told(capsys)
    assert facts["system"] == {"cannot be determined": "OSError: the disk is gone"}
    assert "torch" in facts["threads"]
