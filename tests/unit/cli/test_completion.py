"""Completion: the candidates, and bash's own answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaloop.cli.completion import candidates
from metaloop.cli.main import COMMANDS, main

EXPECTED = [
    ("tr", ["train"]),
    ("train algorithm=mam", ["algorithm=maml", "algorithm=mamlpp"]),
    ("train algorithm/ru", ["algorithm/rule="]),
    ("train algorithm/rule=mom", ["algorithm/rule=momentum"]),
    ("train trainer.max_s", ["trainer.max_steps="]),
    ("train algorithm=prototypes algorithm.comparison.sc", ["algorithm.comparison.scale="]),
    ("train algorithm.rule.l", ["algorithm.rule.lr="]),
    ("train resume=o", ["resume=outputs/maml_glyphs/first"]),
    ("evaluate run=", ["run=outputs/maml_glyphs/first"]),
    ("inspect out", ["outputs/maml_glyphs/first"]),
    ("list algorithm/ru", ["algorithm/rule"]),
    ("list experiments nguyen", ["nguyen2022_tnp_gp_mixture", "nguyen2022_tnp_gp_rbf"]),
    ("sweep five", ["five_choices"]),
    ("data g", ["get"]),
    ("help da", ["data"]),
    ("predict sup", ["support="]),
    ("train nothing=", []),
]


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "outputs" / "maml_glyphs" / "first"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")


@pytest.mark.parametrize(("line", "expected"), EXPECTED)
def test_F11_what_a_word_may_become(line: str, expected: list[str]) -> None:
    assert candidates(line.split(" "), list(COMMANDS)) == expected


@pytest.mark.parametrize(
    ("line", "expected"), [("tr", "train"), ("train algorithm=anp", "anp"), ("train trainer.max_s", "trainer.max_steps=")]
)
def test_F11_bash_completes(line: str, expected: str, tmp_path: Path) -> None:
    """The printed script is sourced, and its function called as bash calls it."""
    command = tmp_path / "metaloop"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m metaloop "$@"\n')
    command.chmod(0o755)
    script = (
        "source <(metaloop completion bash); complete -p metaloop >&2\n"
        f'COMP_LINE="metaloop {line}"; COMP_POINT=${{#COMP_LINE}}; _metaloop; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == [expected]
    assert "-F _metaloop metaloop" in done.stderr


def test_F11_each_shell_has_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "completion --complete" in capsys.readouterr().out
    assert main(["completion", "csh"]) == 2
    assert "did you mean zsh" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["trainer", "trainers", "rules", "algorithm/rule", "episode", "experiments"])
def test_F14_every_group_is_listed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    assert capsys.readouterr().out


def test_F14_names_by_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "experiments", "finn2017_maml_sin"]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["finn2017_maml_sinusoid_10shot", "finn2017_maml_sinusoid_5shot"]
