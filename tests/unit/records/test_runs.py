"""Reading run directories, whole and broken."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_runs import MakeRun

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY
from metaloop.records.runs import find_runs, read_run
from metaloop.records.tables import read_samples


def _rewrite(directory: Path, **changes: object) -> None:
    path = directory / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_reads_record_episodes_and_metrics(make_run: MakeRun) -> None:
    run = read_run(make_run("a", seed=3, episodes=12))
    assert (run.name, run.seed, run.metric, run.training and run.training.steps) == ("a", 3, ACCURACY, 1000)
    assert list(run.episodes) == list(range(12))
    assert np.mean(list(run.episodes.values())) == pytest.approx(run.test.mean)


def test_empty_cells_are_no_measurements(make_run: MakeRun) -> None:
    metrics = read_run(make_run("a")).metrics
    assert metrics["train/loss"][0].tolist() == list(range(10, 1010, 10))
    assert metrics["validation/score"][0].tolist() == list(range(100, 1100, 100))


def test_a_later_evaluation_is_named_after_its_run(make_run: MakeRun) -> None:
    make_run("a")
    directory = make_run("a/evaluations/20w1s", name="maml")
    (directory / "metrics.csv").unlink()
    run = read_run(directory)
    assert run.name == "maml / 20w1s"
    assert run.metrics == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 0}, r"record\.json: written with schema 0, this version reads 2; .*metaloop evaluate run=DIR"),
        ({"seed": "one"}, r"record\.json: seed is 'one', expected int"),
        ({"seed": True}, r"seed is True, expected int"),
        ({"test": None}, r"record\.json: test is None, expected a mapping"),
    ],
)
def test_a_wrong_record_names_file_and_key(make_run: MakeRun, changes: dict[str, object], message: str) -> None:
    directory = make_run("a")
    _rewrite(directory, **changes)
    with pytest.raises(UserError, match=message):
        read_run(directory)


@pytest.mark.parametrize(("key", "value"), [("metric", "f1"), ("norm_mode", None), ("curve", {}), ("mean", "high")])
def test_a_wrong_test_block_names_its_key(make_run: MakeRun, key: str, value: object) -> None:
    directory = make_run("a", test={key: value})
    with pytest.raises(UserError, match=rf"record\.json: test\.{key}(:| is)"):
        read_run(directory)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_broken_record_is_the_users_error(make_run: MakeRun, text: str) -> None:
    directory = make_run("a")
    (directory / "record.json").write_text(text)
    with pytest.raises(UserError, match=r"record\.json"):
        read_run(directory)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a whole table"),
        ("index,score\n0,0.5\n1", "was the run cut off"),
        ("number,score\n0,0.5\n", "first column is 'index'"),
        ("index,loss\n0,0.5\n", "'score'"),
        ("index,score\n0,high\n", "high"),
        ("index,score\n0,0.5\n0,0.5\n", "1 episode numbers appear twice"),
        ("index,score\n0,0.5\n", "holds 1 episodes, the record says 3"),
        ("index,score\n0,0.5\n1,0.5\n2,0.5\n", "the mean score is 0.5, the record says 0.97"),
    ],
)
def test_episodes_that_disagree_with_the_record_are_refused(make_run: MakeRun, text: str, message: str) -> None:
    directory = make_run("a", episodes=3, test={"mean": 0.97})
    (directory / "episodes.csv").write_text(text)
    with pytest.raises(UserError, match=rf"episodes\.csv: .*{message}"):
        read_run(directory)


def test_a_diverged_run_is_read(make_run: MakeRun) -> None:
    directory = make_run("a", episodes=2, test={"mean": float("nan"), "half_width": None})
    (directory / "episodes.csv").write_text("index,score\n0,nan\n1,0.5\n")
    assert np.isnan(read_run(directory).test.mean)


def test_finds_all_runs_once_and_says_what_failed(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("sweep/1")
    make_run("sweep/1/evaluations/more")
    broken, empty = make_run("sweep/2"), tmp_path / "empty"
    (broken / "record.json").write_text("{")
    empty.mkdir()
    starts = [tmp_path / "sweep", tmp_path / "sweep" / "1" / "record.json", empty, tmp_path / "typo"]
    runs, failures = find_runs(starts)
    assert [run.directory.relative_to(tmp_path).as_posix() for run in runs] == ["sweep/1/evaluations/more", "sweep/1"]
    assert [path for path, _ in failures] == [broken, empty, tmp_path / "typo"]
    assert [reason.split(";")[0].split(": ")[-1] for _, reason in failures[1:]] == [
        "no record.json in or below it",
        "does not exist",
    ]


def test_samples_are_read_and_never_unpickled(make_run: MakeRun) -> None:
    directory = make_run("a")
    samples = read_samples(directory)
    assert samples is not None
    assert samples["support_x"].shape == (5, 1, 28, 28)
    np.savez(directory / "samples.npz", images=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(UserError, match=r"samples\.npz"):
        read_samples(directory)
    (directory / "samples.npz").write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match=r"samples\.npz"):
        read_samples(directory)
    shutil.rmtree(directory)
    assert read_samples(directory) is None


def test_F4_an_evaluation_of_an_unfinished_training_is_not_compared(make_run: MakeRun, tmp_path: Path) -> None:
    directory = make_run("cut/evaluations/more")
    runs, failures = find_runs([tmp_path / "cut"])
    assert not runs
    assert failures[0][0] == directory
    assert f"metaloop train resume={tmp_path / 'cut'}" in failures[0][1]


def test_C6_episodes_stay_the_same_when_a_class_of_a_data_set_moves_to_another_module(make_run: MakeRun) -> None:
    """So that a run that is made again is compared with earlier runs; a class of somebody else's package is another one."""

    directory = make_run("a")

    def key(target: str) -> str:
        config = json.loads((directory / "record.json").read_text())["config"]
        _rewrite(directory, config=config | {"dataset": {"_target_": target, "classes": 5}})
        return read_run(directory).episodes_key

    assert key("metaloop.data.glyphs.Glyphs") == key("metaloop.data.images.glyphs.Glyphs")
    assert key("metaloop.data.images.glyphs.Glyphs") != key("metaloop.data.images.omniglot.Omniglot")
    assert key("mine.glyphs.Glyphs") != key("yours.glyphs.Glyphs")
