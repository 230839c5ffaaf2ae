"""The command line: commands, help, exit statuses, listing and data."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hydra
import pytest
from omegaconf import DictConfig

from metaloop.cli import train
from metaloop.cli.main import main
from metaloop.config.composition import DEFAULTS
from metaloop.config.exit_codes import run_and_exit_code
from metaloop.errors import ProcessKilled, Terminated, UserError
from metaloop.evaluation import evaluate
from metaloop.records.writing import write_json

COMMANDS = ["train", "evaluate", "inspect", "report", "list", "data"]


def raising(error: BaseException) -> Callable[[list[str]], int]:
    def function(argv: list[str]) -> int:
        raise error

    return function


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("seed=x: give a number"), 2, "metaloop: seed=x: give a number\n"),
        (chained(RuntimeError("wrapped"), UserError("ways=9")), 2, "metaloop: ways=9\n"),
        (KeyboardInterrupt(), 130, "metaloop: stopped by Ctrl-C\n"),
        (Terminated(), 143, "metaloop: stopped by SIGTERM\n"),
        (ProcessKilled("rank 1", 9), 137, "metaloop: rank 1 was killed by SIGKILL, perhaps because memory ran out\n"),
        (SystemExit(3), 3, ""),
        (SystemExit(), 0, ""),
    ],
)
def test_an_exception_becomes_a_status_and_a_message(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_and_exit_code(raising(error), []) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_plainly(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    error = chained(RuntimeError("could not save"), OSError(number, "No space left on device", "checkpoints/last.ckpt"))
    assert run_and_exit_code(raising(error), []) == 2
    said = capsys.readouterr().err
    assert "disk is full" in said
    assert "last.ckpt" in said
    assert "Traceback" not in said


def test_our_own_fault_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_and_exit_code(lambda argv: write_json(Path("a\0b"), {}) or 0, []) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "null byte" in said
    assert "report it" in said


def test_A7_a_fault_in_the_users_own_code_names_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_and_exit_code(raising(OSError(errno.EIO, "broken")), []) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    place = rf"raising.<locals>.function \({re.escape(__file__)}, line \d+\)"
    assert re.fullmatch(rf"metaloop: {place} raised OSError: \[Errno 5\] broken", said.strip().splitlines()[-1])


def test_what_the_function_returns_is_the_status() -> None:
    assert run_and_exit_code(lambda argv: len(argv), ["a", "b"]) == 2


class Target:
    """Something to instantiate."""

    def __init__(self, size: int, fails: str = "") -> None:
        if fails == "TypeError":
            raise TypeError("from inside")
        if fails == "UserError":
            raise UserError("size must be even")


# Hydra 1.4 asks which targets may be called.
ALLOWED = {"_execution_whitelist_": f"{__name__}.*"} if hasattr(hydra.utils, "execution_whitelist") else {}


def hydra_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    """The status of a Hydra program that instantiates its config."""
    (tmp_path / "conf.yaml").write_text(f"target: {{_target_: {__name__}.Target, size: 2}}\nneeded: 1\nread: ${{needed}}\n")

    @hydra.main(**DEFAULTS, config_path=str(tmp_path), config_name="conf")
    def job(config: DictConfig) -> None:
        config.read
        hydra.utils.instantiate(config.target, **ALLOWED)

    def function(argv: list[str]) -> int:
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null"]
        places = [f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}"]
        monkeypatch.setattr(sys, "argv", ["job", *argv, *quiet, *places])
        job()
        return 0

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    return run_and_exit_code(function, list(overrides))


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        ([], 0, ""),
        (["+target.fails=UserError"], 2, "metaloop: size must be even\n"),
        (["-m", "+target.fails=UserError"], 2, "metaloop: size must be even\n"),
        (["+target.colour=red"], 2, "colour"),
        (["target._target_=nowhere.Nothing"], 2, "nowhere"),
        (["needed=???"], 2, "needed"),
        (["missing=1"], 2, "missing"),
        (["+target.fails=TypeError"], 2, "raised TypeError: from inside"),
        (["--no-such-flag"], 2, "--no-such-flag"),
    ],
)
def test_hydras_refusals_are_the_users(
    overrides: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hydra_job(tmp_path, monkeypatch, *overrides) == code
    said = capsys.readouterr().err
    assert message in said
    assert ("Traceback" in said) == ("raised" in said)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: metaloop {command}")
    assert f"\n  metaloop {command}" in said.split("examples:")[1]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from metaloop.cli.main import COMMANDS, main\n"
        "for command in COMMANDS: main([command, '--help'])\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'pytorch_lightning', 'wandb', 'rich', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_command_the_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: metaloop COMMAND" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "usage: metaloop COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("metaloop 0")


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (
            ["trian"],
            ["did you mean train?", "commands: train, evaluate, predict, play, recommend, sweep, inspect, report, compare,"],
        ),
        (["list", "modles"], ["did you mean models?", "algorithms"]),
        (["data", "verfy"], ["did you mean verify?", "status"]),
        (["data", "get", "omnigot"], ["did you mean omniglot?"]),
        (["report", "no/such/run"], ["no/such/run", "no such folder"]),
        (["report"], ["DIR"]),
        (["list", "models", "--config-dir", "no/such"], ["no/such"]),
        (["list", "--confg-dir", "x"], ["--confg-dir"]),
    ],
)
def test_a_users_mistake_ends_with_status_2(argv: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    for part in parts:
        assert part in said


@pytest.mark.parametrize(("command", "module"), [("train", train), ("evaluate", evaluate)])
def test_train_and_evaluate_get_all_the_words(command: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(module, "main", lambda argv: seen.append(argv) or 0)
    assert main([command, "seed=1,2", "--config-dir", "."]) == 0
    assert seen == [["seed=1,2", "--config-dir", "."]]


@pytest.mark.parametrize(
    ("words", "whose"),
    [
        (["seed=1,2", "-m"], "command"),
        (["--multirun", "seed=1,2", "--config-dir", "."], "command"),
        (["-m", "seed=1,2", "--cfg", "job"], "train"),
        (["-m", "seed=1,2", "hydra/sweeper=basic"], "train"),
        (["seed=1"], "train"),
    ],
)
def test_a_multirun_is_a_sweep_unless_it_is_hydras_own(words: list[str], whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from metaloop.cli import sweep as command

    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(train, "main", lambda argv: seen.append(("train", argv)) or 0)
    monkeypatch.setattr(command, "multirun", lambda argv: seen.append(("command", argv)) or 0)
    assert main(["train", *words]) == 0
    assert seen == [(whose, words)]


def test_report_says_where_the_page_is_and_how_to_open_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metaloop.report.pages import page

    seen: list[object] = []
    monkeypatch.setattr(
        page, "make_report", lambda paths, to, *_: seen.append((paths, to)) or page.Report(to / "index.html", [], [])
    )
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "my page")]) == 0
    assert seen == [([tmp_path], tmp_path / "my page")]
    said = capsys.readouterr().out
    assert str(tmp_path / "my page" / "index.html") in said
    assert "python -m webbrowser file://" in said
    assert "my%20page/index.html" in said


def test_list_names_every_file_of_the_configuration_and_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from metaloop.config.folder import conf_dir

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("# My own net\ndepth: 3\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "new2026.yaml").write_text("# @package _global_\n# A new number\nseed: 1\n")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "silent.yaml").write_text("size: 3\n# not a description\n")
    assert main(["list", "--config-dir", str(tmp_path)]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    groups = {"algorithms": "algorithm", "models": "model", "datasets": "dataset", "experiments": "experiment"}
    groups["sweeps"] = "sweep"
    ours = {(kind, path.stem) for kind, group in groups.items() for path in (conf_dir() / group).glob("*.yaml")}
    added = {("models", "mine"), ("experiments", "new2026"), ("datasets", "silent")}
    assert {(kind, name) for kind, name, _ in rows} == ours | added
    assert ["models", "mine", "My own net"] in rows
    assert ["experiments", "new2026", "A new number"] in rows
    assert ["datasets", "silent", ""] in rows
    assert main(["list", "algorithm/rule"]) == 0  # F14
    assert "momentum" in capsys.readouterr().out
    assert main(["list", "models"]) == 0
    assert {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()} == {
        name for kind, name in ours if kind == "models"
    }


def test_each_of_our_files_has_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith("\t")] == []


def test_list_draws_tables_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["list", "algorithms"]) == 0
    said = capsys.readouterr().out
    assert "algorithm=..." in said
    assert "maml" in said
    assert "\t" not in said


def test_data_status_and_verify_look_where_they_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "all_runs.zip").write_bytes(b"half a zip")
    assert main(["data", "status", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "missing" in said
    assert "present" in said
    assert str(tmp_path / "omniglot" / "images_background.zip") in said
    assert "licence" in said
    assert f"metaloop data get --data-dir {tmp_path}" in said
    assert main(["data", "verify", "omniglot", "--data-dir", str(tmp_path)]) == 2
    caught = capsys.readouterr()
    assert "damaged" in caught.out
    assert "metaloop data get" in caught.err


def test_data_get_fetches_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metaloop.data.files import sources

    asked: list[tuple[str, str]] = []
    state = sources.FileState("omniglot", tmp_path / "a.zip", "MIT", 5, True, "2 characters")
    monkeypatch.setattr(sources, "get", lambda name, folder, progress: asked.append((name, folder)) or [state])
    monkeypatch.setenv("METALOOP_DATA", "elsewhere")
    assert main(["data", "get"]) == 0
    assert main(["data", "get", "omniglot", "--data-dir", "there"]) == 0
    assert asked == [*((name, "elsewhere") for name in sources.SOURCES), ("omniglot", "there")]


def test_a_reader_that_has_gone_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "metaloop", "list"]
    for unbuffered in ("", "1"):  # fails at the end, or with the first line
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
    os.close(writer)
