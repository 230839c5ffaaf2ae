"""Completion: the candidates, and bash's own answer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metaloop.cli.completion import candidates
from metaloop.cli.main import COMMANDS, main

EXPECTED = [
    ("tr", ["train"]),
    ("train algorithm=mam", ["algorithm=maml", "algorithm=maml_control", "algorithm=mamlpp"]),
    ("train algorithm/ru", ["algorithm/rule="]),
    ("train algorithm/rule=mom", ["algorithm/rule=momentum"]),
    ("train trainer.max_s", ["trainer.max_steps="]),
    ("train algorithm=prototypes algorithm.comparison.sc", ["algorithm.comparison.scale="]),
    ("train algorithm.rule.l", ["algorithm.rule.lr="]),
    ("train resume=o", ["resume=outputs/maml_glyphs/first"]),
    ("evaluate run=", ["run=outputs/maml_glyphs/first"]),
    ("inspect out", ["outputs/maml_glyphs/first"]),
    ("list algorithm/ru", ["algorithm/rule"]),
    (
        "list experiments nguyen",
        [
            *(f"nguyen2022_{name}_gp_protocol" for name in ("anp", "cnp")),
            "nguyen2022_tnp_gp_mixture",
            "nguyen2022_tnp_gp_protocol",
            "nguyen2022_tnp_gp_rbf",
        ],
    ),
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
    script = (
        "source <(metaloop completion bash); complete -p metaloop >&2\n"
        f'COMP_LINE="metaloop {line}"; COMP_POINT=${{#COMP_LINE}}; _metaloop; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = _in_shell(["bash", "-c", script], tmp_path)
    assert done.stdout.split() == [expected]
    assert "-F _metaloop metaloop" in done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_F11_fish_completes(tmp_path: Path) -> None:
    done = _in_shell(["fish", "-c", "metaloop completion fish | source; complete -C 'metaloop train algorithm=anp'"], tmp_path)
    assert done.stdout.split() == ["algorithm=anp"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_F11_zsh_completes_by_a_sourced_script_and_by_one_in_its_path(tmp_path: Path) -> None:
    """Completion needs a terminal, so the function is called with the variables that zsh sets for it."""
    started = "compdef() { print $1 }; compadd() { print ${@[4,-1]} }; words=(metaloop train algorithm=anp); CURRENT=3; "
    sourced = _in_shell(["zsh", "-fc", f"{started} source <(metaloop completion zsh); _metaloop"], tmp_path)
    assert sourced.stdout.split() == ["_metaloop", "algorithm=anp"]
    in_path = f"{started} metaloop completion zsh > _metaloop; fpath=($PWD); autoload -Uz _metaloop; _metaloop"
    assert _in_shell(["zsh", "-fc", in_path], tmp_path).stdout.split() == ["algorithm=anp"]


def _in_shell(command: list[str], place: Path) -> "subprocess.CompletedProcess[str]":
    """Run a shell in ``place``, with a command metaloop."""
    program = place / "metaloop"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m metaloop "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "HOME": str(place)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=place)


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
