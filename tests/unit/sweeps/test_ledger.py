"""The ledger: nobody runs what somebody runs, whatever is killed."""

import multiprocessing
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY
from metaloop.records.jobs import CANCELLED, DONE, FAILED, INTERRUPTED, LEDGER, RUNNING, WAITING
from metaloop.sweeps import ledger as module
from metaloop.sweeps.ledger import Ledger, Planned

RESULT = {"metric": ACCURACY.as_dict(), "mean": 0.9, "half_width": 0.01, "best_validation": 0.8, "tasks_per_second": 3.0}


def planned(count: int) -> list[Planned]:
    return [Planned(f"key{i}", (f"a={i}",), {"config": {"a": i}}, f"run{i}") for i in range(count)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(tmp_path / "sweep")
    made.enter(planned(3))
    return made


def states(ledger: Ledger) -> list[str]:
    return [job.state for job in ledger.jobs()]


def test_runs_are_entered_once_and_keep_their_place(ledger: Ledger) -> None:
    owner = ledger.claim("key0", "cpu", 0)
    assert owner is not None
    assert ledger.end("key0", owner, DONE, result=RESULT)
    ledger.enter([Planned("new", (), {}, "new"), *planned(3)])
    assert [(job.key, job.number) for job in ledger.jobs()] == [("key0", 0), ("key1", 1), ("key2", 2), ("new", 3)]
    assert ledger.job("key0").result == RESULT
    assert ledger.job("key0").overrides == ("a=0",)
    assert ledger.identity


def test_a_run_has_one_owner(ledger: Ledger) -> None:
    owner = ledger.claim("key0", "3", 0)
    assert owner is not None
    assert ledger.claim("key0", "4", 9) is None
    assert ledger.beat("key0", owner)
    assert not ledger.beat("key0", "somebody else")
    assert not ledger.end("key0", "somebody else", DONE)
    job = ledger.job("key0")
    assert (job.state, job.attempts, job.pid, job.device) == (RUNNING, 1, os.getpid(), "3")
    assert ledger.end("key0", owner, DONE, result=RESULT)
    assert ledger.claim("key0", "3", 9) is None  # it is done
    assert ledger.claim("unknown", "3", 9) is None


def test_a_run_that_failed_is_tried_again_up_to_a_limit(ledger: Ledger) -> None:
    for attempt in range(3):
        owner = ledger.claim("key0", "", 2)
        assert owner is not None, attempt
        ledger.end("key0", owner, FAILED, error="no")
    assert ledger.claim("key0", "", 2) is None
    assert (ledger.job("key0").failures, ledger.job("key0").error) == (3, "no")
    assert ledger.retry(["key0", "key1"]) == 1
    assert ledger.claim("key0", "", 0) is not None


def test_a_run_that_was_cut_off_is_resumed_however_often(ledger: Ledger) -> None:
    for _ in range(5):
        owner = ledger.claim("key0", "", 0)
        assert owner is not None
        ledger.end("key0", owner, INTERRUPTED)
    assert ledger.claim("key0", "", 0) is not None


def test_who_is_gone_or_silent_loses_the_run(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = multiprocessing.get_context("spawn").Process(target=Ledger(ledger.directory).claim, args=("key0", "", 0))
    gone.start()
    gone.join()
    assert ledger.job("key0").abandoned(60)
    assert ledger.claim("key0", "", 0) is not None
    old = ledger.claim("key1", "", 0)
    assert old is not None
    assert ledger.claim("key1", "", 0) is None
    later = time.time() + 61
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert ledger.claim("key1", "", 0) is None  # E15: it lives on this machine, so it is only suspended
    monkeypatch.setattr(module.socket, "gethostname", lambda: "elsewhere")
    new = ledger.claim("key1", "", 0)
    assert new is not None
    assert not ledger.beat("key1", old)
    assert not ledger.end("key1", old, DONE, result=RESULT)
    assert ledger.end("key1", new, DONE, result=RESULT)


def test_E15_another_process_with_the_number_of_one_that_is_gone_is_not_the_owner(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "started_at", lambda pid: "1")
    assert ledger.claim("key0", "", 0) is not None
    assert ledger.job("key0").abandoned(60)


def test_F19_an_error_that_would_come_again_ends_the_run_until_somebody_asks(ledger: Ledger) -> None:
    owner = ledger.claim("key0", "", 2)
    assert owner is not None
    ledger.end("key0", owner, FAILED, error="no", final=True)
    assert ledger.job("key0").failed_tries == 1
    assert ledger.claim("key0", "", 2) is None
    ledger.retry(["key0"])
    assert ledger.claim("key0", "", 2) is not None


def test_a_cancelled_run_is_not_started_and_a_running_one_loses_its_owner(ledger: Ledger) -> None:
    owner = ledger.claim("key0", "", 0)
    assert owner is not None
    assert ledger.cancel(["key0", "key1"]) == 2
    assert not ledger.beat("key0", owner)
    assert not ledger.end("key0", owner, INTERRUPTED)
    assert ledger.claim("key1", "", 5) is None
    assert states(ledger) == [CANCELLED, CANCELLED, WAITING]
    assert ledger.retry(["key0", "key1", "key2"]) == 2


def test_the_dead_are_entered_as_failed_once(ledger: Ledger) -> None:
    assert ledger.claim("key0", "", 0) is not None
    ledger.bury("key0", os.getpid() + 1, FAILED, "another process")
    assert states(ledger)[0] == RUNNING
    ledger.bury("key0", os.getpid(), FAILED, "killed")
    ledger.bury("key0", os.getpid(), FAILED, "killed")
    assert (ledger.job("key0").state, ledger.job("key0").failures) == (FAILED, 1)
    assert ledger.claim("key1", "", 0) is not None
    ledger.bury("key1", os.getpid(), INTERRUPTED)
    assert (ledger.job("key1").state, ledger.job("key1").failures) == (INTERRUPTED, 0)


def claim_all(directory: Path, count: int) -> None:
    ledger, won = Ledger(directory), []
    for i in range(count):
        owner = ledger.claim(f"key{i}", "", 0)
        if owner is not None:
            won.append(i)
            ledger.end(f"key{i}", owner, DONE, result=RESULT)
    (directory / f"{os.getpid()}.won").write_text(" ".join(map(str, won)))


def test_many_processes_share_the_runs_and_none_is_taken_twice(tmp_path: Path) -> None:
    Ledger(tmp_path).enter(planned(40))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=claim_all, args=(tmp_path, 40)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    won = [int(word) for path in tmp_path.glob("*.won") for word in path.read_text().split()]
    assert sorted(won) == list(range(40))
    assert all(job.attempts == 1 for job in Ledger(tmp_path).jobs())


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a sweep"):
        Ledger(tmp_path).jobs()


def test_a_file_of_another_version_or_kind_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    database = sqlite3.connect(ledger.path)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(UserError, match="version 99"):
        ledger.jobs()
    (tmp_path / LEDGER).write_text("this is text, not a database" * 100)
    with pytest.raises(UserError, match=r"is damaged: file is not a database\. Move the file away"):
        Ledger(tmp_path).jobs()


def test_a_disk_that_is_full_or_read_only_is_said(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def read_only(path: Path, **options: object) -> sqlite3.Connection:
        return real(f"file:{path}?mode=ro", uri=True, **options)

    monkeypatch.setattr(module.sqlite3, "connect", read_only)
    assert len(ledger.jobs()) == 3  # looking is still possible
    with pytest.raises(UserError, match="readonly database"):
        ledger.claim("key0", "", 0)

    def full(path: Path, **options: object) -> sqlite3.Connection:
        database = real(path, **options)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    monkeypatch.setattr(module.sqlite3, "connect", full)
    with pytest.raises(UserError, match="full"):
        ledger.enter([Planned(f"big{i}", ("x" * 5000,), {}, "big") for i in range(50)])
    monkeypatch.undo()
    assert len(ledger.jobs()) == 3  # nothing of the half that fitted


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"set another hydra\.sweep\.dir"):
        Ledger(tmp_path / "file" / "sweep").enter(planned(1))


@pytest.mark.parametrize("how", ["cut", "garbage"])
def test_a_torn_file_is_said_wherever_it_is_torn(how: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.enter(planned(60))
    whole, page = ledger.path.read_bytes(), 4096
    right, said = ledger.jobs(), list[str]()
    for at in range(0, len(whole), page // 2):
        torn = whole[:at] if how == "cut" else whole[:at] + bytes(range(256)) * 8 + whole[at + page // 2 :]
        ledger.path.write_bytes(torn)
        try:
            found = ledger.jobs()
        except UserError as error:
            said.append(str(error))
        else:
            assert found in ([], right) or how == "garbage"
    assert len(said) >= 4
    assert all("is damaged" in one for one in said)


def test_a_row_that_says_nothing_is_said(ledger: Ledger) -> None:
    database = sqlite3.connect(ledger.path)
    database.execute("UPDATE jobs SET overrides = '[\"a=' WHERE key = 'key1'")
    database.commit()
    database.close()
    for look in (ledger.jobs, lambda: ledger.claim("key1", "", 0)):
        with pytest.raises(UserError, match="is damaged: the row of run 1"):
            look()
    assert ledger.claim("key0", "", 0) is not None


def test_a_clock_that_goes_back_takes_no_run_from_its_owner(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, killed = ledger.claim("key0", "", 0), ledger.claim("key1", "", 0)
    assert owner is not None
    assert killed is not None
    earlier = time.time() - 3600
    monkeypatch.setattr(module.time, "time", lambda: earlier)
    assert not ledger.job("key0").abandoned(60)
    assert ledger.claim("key0", "", 9) is None
    assert ledger.beat("key0", owner)
    assert ledger.beat("key1", killed)
    assert ledger.end("key0", owner, DONE, result=RESULT)
    ledger.bury("key1", os.getpid(), FAILED, "killed")
    assert [job.seconds for job in ledger.jobs()] == [0, 0, 0]


def test_a_reader_waits_for_the_process_that_makes_the_file(tmp_path: Path) -> None:
    maker = sqlite3.connect(tmp_path / LEDGER, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")  # the file is there, its table is not
    found: list[object] = []
    reader = threading.Thread(target=lambda: found.append(Ledger(tmp_path).jobs()))
    reader.start()
    reader.join(timeout=0.5)
    assert reader.is_alive()
    maker.execute("ROLLBACK")
    maker.close()
    Ledger(tmp_path).enter([])
    reader.join(timeout=60)
    assert found == [[]]
