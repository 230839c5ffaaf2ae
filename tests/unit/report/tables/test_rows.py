"""Grouping runs by what they share."""

import numpy as np
import pytest
from made_runs import MakeRun

from metaloop.metrics.interval import mean_interval
from metaloop.records.runs import read_run
from metaloop.report.tables.rows import group_rows


def test_runs_that_differ_in_the_seed_are_one_row_with_two_kinds_of_spread(make_run: MakeRun) -> None:
    runs = [read_run(make_run(f"run-{seed}", name="maml", seed=seed)) for seed in (2, 0, 1)]
    (row,) = group_rows(runs)
    assert [run.seed for run in row.runs] == [0, 1, 2]
    means = np.mean([[run.episodes[i] for i in range(60)] for run in runs], axis=0)
    assert row.interval.mean == pytest.approx(mean_interval(means).mean)
    assert row.interval.half_width == pytest.approx(mean_interval(means).half_width)
    assert row.interval.n == 60
    assert row.spread.sd == pytest.approx(np.std([run.test.mean for run in runs], ddof=1))
    assert row.spread.n == 3
    assert row.tasks_per_second == 481.0
    assert row.peak_memory == 700 * 2**20


def test_one_seed_has_the_records_interval_and_no_spread(make_run: MakeRun) -> None:
    run = read_run(make_run("a"))
    (row,) = group_rows([run])
    assert row.interval.half_width == pytest.approx(run.test.half_width)
    assert row.spread.sd is None
    assert row.label == "a"


def test_the_same_seed_twice_is_not_two_seeds(make_run: MakeRun) -> None:
    rows = group_rows([read_run(make_run(folder, name="maml", seed=0)) for folder in ("a", "b")])
    assert [row.spread.n for row in rows] == [1, 1]
    assert [row.label for row in rows] == ["maml #1", "maml #2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"seed": 1, "algorithm": {"rule": {"rate": 0.1}}}},
        {"test": {"norm_mode": "support"}},
        {"episodes": 50},
        {"algorithm": "fomaml"},
    ],
)
def test_anything_else_than_the_seed_makes_another_row(make_run: MakeRun, changes: dict[str, object]) -> None:
    first, second = make_run("a", name="same"), make_run("b", name="same", seed=1, **changes)
    rows = group_rows([read_run(first), read_run(second)])
    assert len(rows) == 2
    assert rows[0].label != rows[1].label


def test_rows_of_one_name_are_told_apart_by_what_differs(make_run: MakeRun) -> None:
    first, second = (
        make_run("a", name="mine"),
        make_run("b", name="mine", algorithm="anil", overrides=["x=1", "seed=4", "hydra.run.dir=there", "hydra/launcher=some"]),
    )
    labels = [row.label for row in group_rows([read_run(first), read_run(second)])]
    assert labels == ["mine (maml, algorithm=maml)", "mine (anil, x=1)"]


def test_a_run_that_was_not_trained_has_no_speed(make_run: MakeRun) -> None:
    (row,) = group_rows([read_run(make_run("a", training=None))])
    assert (row.tasks_per_second, row.peak_memory) == (None, None)
