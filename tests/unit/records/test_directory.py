"""A run's directory: one process, one run, found again."""

import json
import os
from pathlib import Path

import pytest

from metaloop.errors import UserError
from metaloop.records.directory import check_links, claimed, describe, unfinished
from metaloop.records.reading import read_identity
from metaloop.records.schema import RunIdentity


def identity(name: str = "a", fingerprint: str = "f") -> RunIdentity:
    return RunIdentity(name, 1, {}, {}, (), (), "", fingerprint)


def made(root: Path, name: str, fingerprint: str, age: int, *, finished: bool = False) -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    describe(directory, identity(fingerprint=fingerprint), "")
    os.utime(directory / "run.json", (1000 - age, 1000 - age))
    if finished:
        (directory / "record.json").write_text("{}")
        (directory / "report").mkdir()
        (directory / "report" / "index.html").touch()
    return directory


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "run"
    with claimed(directory):
        with pytest.raises(UserError, match=r"another process is running in .* hydra\.run\.dir"), claimed(directory):
            pass
        with claimed(tmp_path / "other"):
            pass
    with claimed(directory):
        pass


def test_a_run_is_described_once(tmp_path: Path) -> None:
    describe(tmp_path, identity("a"), "seed: 1")
    assert (tmp_path / "config.yaml").read_text() == "seed: 1"
    assert read_identity(tmp_path) == identity("a")
    with pytest.raises(UserError, match=f"already holds a run: continue it with resume={tmp_path}"):
        describe(tmp_path, identity("b"), "")
    assert read_identity(tmp_path).name == "a"


def test_the_newest_unfinished_run_of_a_config_is_found(tmp_path: Path) -> None:
    made(tmp_path, "a/older", "f", 5)
    newer = made(tmp_path, "a/newer", "f", 3)
    made(tmp_path, "b/finished", "f", 1, finished=True)
    made(tmp_path, "b/other", "g", 0)
    assert unfinished(tmp_path, "f") == newer
    assert unfinished(tmp_path, "h") is None
    assert unfinished(tmp_path / "nowhere", "f") is None


def test_a_broken_neighbour_hides_no_run(tmp_path: Path) -> None:
    found = made(tmp_path, "a", "f", 5)
    broken = made(tmp_path, "b", "f", 1)
    (broken / "run.json").write_text("")
    assert unfinished(tmp_path, "f") == found
    assert json.loads((found / "run.json").read_text())


def test_E11_links_to_outside_are_refused_but_among_earlier_logs_of_wandb(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside.log"
    outside.touch()
    logs = run / "wandb" / "offline-run-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(outside)  # W&B makes such
    (run / "wandb" / "latest-run").symlink_to("offline-run-1")
    check_links(run)
    (run / "wandb" / "debug.log").symlink_to(outside)
    with pytest.raises(UserError, match=r"debug\.log is a link to .*outside of the folder"):
        check_links(run)
