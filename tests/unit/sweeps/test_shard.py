"""Shards of a sweep: the parts of an array job, their arithmetic, and what can be done with them afterwards."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import pytest

from metaloop.cli.main import main
from metaloop.errors import UserError
from metaloop.records.jobs import DONE, WAITING
from metaloop.sweeps.ledger import Ledger
from metaloop.sweeps.shard import Shard
from small_runs import SMALL_CONF, sweep_outcomes

Captured = pytest.CaptureFixture[str]
KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(50)]
SMALL = ["sweep", "small", "--config-dir", str(SMALL_CONF), "--jobs", "2", "trainer.max_steps=2"]


def parts(keys: list[str], count: int) -> list[list[str]]:
    return [Shard(index, count).of(keys) for index in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 64])
def test_every_run_is_in_exactly_one_part_and_the_parts_are_equally_large(count: int) -> None:
    shards = parts(KEYS, count)
    assert Counter(key for shard in shards for key in shard) == Counter(KEYS)
    assert {len(shard) for shard in shards} <= {50 // count, -(-50 // count)}
    assert all(shard == [key for key in KEYS if key in shard] for shard in shards)  # in the order of the sweep


def test_runs_that_are_appended_move_no_other() -> None:
    for known in range(len(KEYS)):
        assert all(after[: len(before)] == before for before, after in zip(parts(KEYS[:known], 4), parts(KEYS, 4), strict=True))


def test_no_part_gets_all_runs_with_one_setting() -> None:
    """As many settings as parts: dividing by position alone would give each part one setting."""
    assert all({KEYS.index(key) % 4 for key in shard} == {0, 1, 2, 3} for shard in parts(KEYS, 4))


SLURM = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/1", {}, (0, 1)),
        ("2/3", SLURM, (2, 3)),
        ("auto", SLURM, (3, 4)),
        ("auto/4", SLURM, (3, 4)),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "4"}, (2, 4)),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "7", "SLURM_ARRAY_TASK_STEP": "2"}, (1, 4)),
        ("auto/5", {"JOB_COMPLETION_INDEX": "4"}, (4, 5)),
        ("auto", {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}, (1, 2)),
    ],
)
def test_a_part_by_number_or_by_the_environment_of_a_job(text: str, environment: dict[str, str], expected: object) -> None:
    shard = Shard.parse(text, environment)
    assert (shard.index, shard.count) == expected


@pytest.mark.parametrize(
    ("text", "environment", "reason"),
    [
        ("4/4", {}, "must be from 0 to 3"),
        ("-1/4", {}, "must be from 0 to 3"),
        ("0/0", {}, "must be at least 1"),
        ("1", {}, "I/N with I from 0"),
        ("1/2/3", {}, "I/N with I from 0"),
        ("", {}, "I/N with I from 0"),
        ("auto", {}, "JOB_COMPLETION_INDEX"),
        ("auto", {"JOB_COMPLETION_INDEX": "0"}, "auto/N"),
        ("auto/3", {"JOB_COMPLETION_INDEX": "3"}, "must be from 0 to 2"),
        ("auto/5", SLURM, "the job has 4 parts"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_COUNT=''"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "9"}, "not 4 equal steps"),
    ],
)
def test_a_part_that_does_not_exist_is_refused(text: str, environment: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Shard.parse(text, environment)


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["small", "--shard", "2/2"], "must be from 0 to 1"), (["small_search", "--shard", "0/2"], "no fixed runs to divide")],
)
def test_a_mistake_is_said_before_anything_starts(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words, "--config-dir", str(SMALL_CONF)]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_parts_in_folders_of_their_own_are_one_sweep_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    for task in "01":
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert main([*SMALL, "--shard", "auto", f"hydra.sweep.dir=part{task}"]) == 0
        assert f"shard               {task}/2: 2 of 4 runs" in capsys.readouterr().out
        # A ledger knows the runs of all parts: with shared storage it is the ledger of all.
        assert Counter(job.state for job in Ledger(Path(f"part{task}")).jobs()) == {DONE: 2, WAITING: 2}
    parts = [sweep_outcomes(Path(f"part{task}")) for task in "01"]
    shutil.copytree("part1", "part0", dirs_exist_ok=True, ignore=shutil.ignore_patterns("ledger.sqlite"))
    written = {path: path.stat().st_mtime_ns for path in Path("part0").rglob("record.json")}
    assert main([*SMALL, "hydra.sweep.dir=part0"]) == 0
    assert "4: 2 done already, 2 to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("part0").rglob("record.json")} == written  # none ran again
    assert [job.state for job in Ledger(Path("part0")).jobs()] == [DONE] * 4
    assert sweep_outcomes(Path("part0")) == parts[0] | parts[1]
    assert [len(part) for part in parts] == [2, 2]
    assert main(["report", "part0"]) == 0
