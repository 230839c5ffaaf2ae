"""A sweep's ledger on the page and in the terminal: nothing that failed, waits or was deleted is passed over."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from made_runs import MakeRun

from metaloop.cli.main import main
from metaloop.records.jobs import DONE, FAILED, LEDGER, PRUNED, read_jobs
from metaloop.report.pages.sweeps import find_sweeps
from metaloop.sweeps.ledger import Ledger, Planned


@pytest.fixture
def sweep(make_run: MakeRun, tmp_path: Path) -> Path:
    """Six runs: done, deleted, failed, pruned, waiting, and one that is said to lie elsewhere."""
    folder = tmp_path / "sweep"
    ledger = Ledger(folder)
    names = ("done", "deleted", "failed", "pruned", "waiting", "../escaped")
    ledger.enter([Planned(name, (f"algorithm={name}",), {}, name) for name in names])
    for name in names[:4]:
        owner = ledger.claim(name, "cpu", 0)
        assert owner is not None
        if name == "pruned":
            ledger.prune(name)
        elif name == "failed":
            ledger.end(name, owner, FAILED, error="UserError: the loss\x1b[31m is not finite\nmore")
        else:
            make_run(f"sweep/{name}", samples=False)
            ledger.end(name, owner, DONE)
    shutil.rmtree(folder / "deleted")
    return folder


def test_every_run_is_counted_and_said(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sweep / LEDGER).read_bytes()
    assert main(["report", str(sweep), "--output", str(tmp_path / "out")]) == 0
    said, page = capsys.readouterr().out, (tmp_path / "out" / "index.html").read_text()
    counts = "6 runs: 2 waiting, 1 done, 1 pruned, 1 failed, 1 deleted"
    assert f"{sweep}: {counts}" in said
    assert counts in page
    reasons = (
        r"failed: UserError: the loss\x1b[31m is not finite; algorithm=failed",
        "done, but its folder was deleted or moved",
        "waiting: it has not been started; algorithm=waiting",
        "the directory of run 5 is outside the sweep",
    )
    for reason in reasons:
        assert reason in said, reason
    assert "4 runs are not in the tables" in page
    assert (sweep / LEDGER).read_bytes() == before


def test_states_are_those_of_the_ledger(sweep: Path) -> None:
    assert {job.key: job.state for job in read_jobs(sweep)}["pruned"] == PRUNED
    ((found,), failures) = find_sweeps([sweep.parent, sweep])
    assert (found.folder, failures) == (sweep, [])


def test_a_damaged_ledger_hides_no_run(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / LEDGER).write_bytes(b"no database")
    assert main(["report", str(sweep), "--output", str(tmp_path / "out")]) == 0
    assert "ledger.sqlite cannot be read: file is not a database" in capsys.readouterr().out
    (sweep / LEDGER).unlink()
    with sqlite3.connect(sweep / LEDGER) as database:
        database.execute("PRAGMA user_version = 99")
    sweeps, failures = find_sweeps([sweep])
    assert sweeps == []
    assert "is of version 99" in failures[0].reason
