"""Broken, forbidden and unreadable files of a user: one or two lines that name the file and the remedy, never a traceback."""

import errno
import json
import os
import random
import shutil
import sqlite3
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from metaloop.cli.main import main
from metaloop.data.tables.table_reading import ARCHIVE, read_table
from metaloop.errors import UserError
from metaloop.inner.execution.auto import Auto
from metaloop.records.jobs import LEDGER, read_jobs
from metaloop.sweeps.ledger import Ledger, Planned
from metaloop.training.choices import KeptChoices
from small_runs import words

Captured = pytest.CaptureFixture[str]
DEEP = "[" * 100_000


def refused(argv: list[str], capsys: Captured) -> str:
    """The message of a command that ends with the user's error: at most two lines."""
    capsys.readouterr()
    code, said = main(argv), capsys.readouterr().err
    assert code == 2, (argv, said)
    assert "Traceback" not in said
    assert "fault of metaloop" not in said
    assert len(said.splitlines()) <= 2, said
    return said


@pytest.fixture
def run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run that may be broken."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_E16_folders_that_cannot_be_made_are_named(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "run", Path("/proc/nowhere/run"), tmp_path / ("x" * 300)):
        assert str(folder)[:12] in refused(words(folder), capsys)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_E16_read_only_folders_are_named(code: int, run: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: object, *arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "mkdir", forbidden)
    monkeypatch.setattr("tempfile.mkstemp", lambda **options: forbidden(options["dir"]))
    for argv in (
        ["evaluate", f"run={run}"],
        ["inspect", str(run), "--episodes", "2"],
        ["report", str(run), "--output", "page"],
    ):
        message = refused(argv, capsys)
        assert os.strerror(code) in message
        assert "choose another folder" in message


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"any": 5}', DEEP, "\0\x01", "null"])
def test_E16_broken_choices_are_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"choices\.json.*remove the file"):
        KeptChoices(path, Auto(expected_steps=5)).on_fit_start(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["run.json", "record.json"])
@pytest.mark.parametrize("content", [DEEP, '{"a":' * 50_000, "{", "", "5", '{"config": 5}'])
def test_E16_broken_descriptions_are_named(file: str, content: str, run: Path, capsys: Captured) -> None:
    (run / file).write_text(content)
    for argv in (["evaluate", f"run={run}"], ["compare", str(run), str(run)], ["inspect", str(run)]):
        if not (argv[0] == "compare" and file == "run.json"):  # it then shows the records alone
            assert file in refused(argv, capsys)
    code, said = main(["report", str(run), "--output", "page"]), capsys.readouterr().err
    assert code in (0, 2)
    assert "Traceback" not in said


def test_E16_a_config_nested_deeply_is_refused(run: Path, capsys: Captured) -> None:
    content = json.loads((run / "run.json").read_text())
    content["config"]["model"]["hidden"] = json.loads("[" * 300 + "]" * 300)
    (run / "run.json").write_text(json.dumps(content))
    assert "run.json: model.hidden.0.0... is nested more than 60 levels deep" in refused(["evaluate", f"run={run}"], capsys)


def test_E16_a_ledger_of_flipped_bytes_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "sweep")
    ledger.enter([Planned(f"key{number}", (f"a={number}",), {"config": {}}, f"run{number}") for number in range(8)])
    owner = ledger.claim("key0", "cpu", 0)
    assert owner is not None
    whole, path, generator = ledger.path.read_bytes(), tmp_path / "sweep" / LEDGER, random.Random(0)
    used = [place for place, byte in enumerate(whole) if byte]
    refusals = 0
    for _ in range(300):
        broken = bytearray(whole)
        for place in generator.sample(used, 3):
            broken[place] ^= 1 << generator.randrange(8)
        path.write_bytes(broken)
        for read in (ledger.jobs, lambda: read_jobs(ledger.directory), lambda: ledger.identity("key3")):
            try:
                read()
            except UserError as error:
                refusals += str(path) in str(error)
    assert refusals > 300


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "sleeping"), ("overrides", "5"), ("overrides", '["a", 5]'), ("overrides", DEEP), ("result", "[1]"),
     ("number", "two"), ("seconds", "long"), ("directory", b"\xff"), ("heartbeat", "now"), ("pid", 0.5)],
)  # fmt: skip
def test_E16_a_row_of_another_kind_is_named(column: str, value: object, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.enter([Planned("key", ("a=1",), {}, "run")])
    database = sqlite3.connect(ledger.path)
    database.execute(f"UPDATE jobs SET {column} = ?", (value,))
    database.commit()
    database.close()
    for read in (ledger.jobs, lambda: read_jobs(tmp_path)):
        with pytest.raises(UserError, match=r"ledger\.sqlite.*row of run"):
            read()


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (3, 2, np.nan, "row 4: the target nan"),
        (7, 2, np.inf, "row 8: the target inf"),
        (0, 1, -np.inf, "row 1: the feature -inf"),
        (5, 0, 1e200, r"row 6: the feature 1e\+200"),
    ],
)
def test_E16_tables_with_infinite_numbers_name_the_row(
    row: int, column: int, value: float, message: str, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3))
    values[row, column] = value
    with ZipFile(tmp_path / ARCHIVE, "w") as archive:
        archive.writestr("yacht__data.txt", "\n".join(" ".join(map(str, line)) for line in values))
        archive.writestr("yacht__index_target.txt", "2")
        archive.writestr("yacht__index_features.txt", "0\n1")
    with pytest.raises(UserError, match=rf"yacht__data\.txt, {message} is no finite number .*remove the row"):
        read_table("yacht", str(tmp_path))


def test_E16_an_archive_whose_columns_do_not_exist_is_named(tmp_path: Path) -> None:
    with ZipFile(tmp_path / ARCHIVE, "w") as archive:
        archive.writestr("yacht__data.txt", "1 2\n3 4")
        archive.writestr("yacht__index_target.txt", "7")
        archive.writestr("yacht__index_features.txt", "0")
    with pytest.raises(UserError, match=r"uci_regression\.zip is broken"):
        read_table("yacht", str(tmp_path))
