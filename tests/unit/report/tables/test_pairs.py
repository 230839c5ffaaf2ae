"""Which runs are paired, and what is said about them."""

import math
from pathlib import Path

import numpy as np
import pytest
from made_runs import MakeRun
from statsmodels.stats.multitest import multipletests

from metaloop.metrics.paired import paired_difference
from metaloop.records.runs import read_run
from metaloop.report.tables.pairs import ALL_PAIRS_UP_TO, Pair, compare_pairs, pairs_csv_rows, pairs_table
from metaloop.report.tables.rows import group_rows


def _pairs(*directories: Path) -> list[Pair]:
    return compare_pairs(group_rows(map(read_run, directories)))


def test_the_better_run_comes_first(make_run: MakeRun) -> None:
    (pair,) = _pairs(make_run("low", mean=0.9), make_run("high", mean=0.95))
    assert (pair.first.label, pair.second.label) == ("high", "low")
    assert pair.difference == paired_difference(pair.first.first.episodes, pair.second.first.episodes)
    (pair,) = _pairs(make_run("large", problem="regression", mean=0.9), make_run("small", problem="regression", mean=0.5))
    assert (pair.first.label, pair.difference.interval.mean < 0) == ("small", True)


def test_seeds_are_averaged_so_that_no_setting_meets_the_luckiest_seed(make_run: MakeRun) -> None:
    lucky = [make_run(f"run{seed}", name="maml", seed=seed, mean=0.9 + 0.05 * (seed == 2)) for seed in range(3)]
    (pair,) = _pairs(*lucky, make_run("steady", name="anil", algorithm="anil", mean=0.93))
    assert (pair.first.label, pair.second.label) == ("anil", "maml")
    averaged = np.mean([list(read_run(run).episodes.values()) for run in lucky], axis=0)
    assert pair.difference.interval.mean == pytest.approx((pair.first.scores - averaged).mean())


@pytest.mark.parametrize(
    "changes",
    [
        {"episodes": 59},
        {"test": {"ways": 20}},
        {"test": {"shots": [1, 5]}},
        {"test": {"queries": 15}},
        {"test": {"seed": 1}},
        {"test": {"split": "validation"}},
        {"config": {"dataset": {"rotations": "classes"}}},
        {"problem": "regression"},
    ],
)
def test_other_episodes_are_never_paired(make_run: MakeRun, changes: dict[str, object]) -> None:
    assert _pairs(make_run("a"), make_run("b", **changes)) == []


def test_where_the_data_lie_does_not_matter(make_run: MakeRun) -> None:
    configs = [{"dataset": {"rotations": "none", "data_dir": place}} for place in ("here", "there")]
    assert len(_pairs(*(make_run(str(i), config=config) for i, config in enumerate(configs)))) == 1


def test_many_runs_are_compared_with_the_best_only(make_run: MakeRun) -> None:
    count = ALL_PAIRS_UP_TO + 1
    runs = [make_run(f"r{i:02}", mean=0.9 + i / 1000 * (-1) ** i, samples=False) for i in range(count)]
    pairs = _pairs(*runs)
    assert len(pairs) == count - 1
    assert {pair.first.label for pair in pairs} == {"r10"}
    assert len(_pairs(*runs[:-1])) == math.comb(ALL_PAIRS_UP_TO, 2)


def test_tables_of_pairs(make_run: MakeRun) -> None:
    pairs = _pairs(make_run("low", mean=0.9), make_run("highest", mean=0.95))
    interval = pairs[0].difference.interval
    text = [cell.text for cell in pairs_table(pairs).rows[0]]
    difference = f"+{100 * interval.mean:.2f} ± {100 * interval.half_width:.2f}"
    assert text == ["highest", "low", "accuracy (points)", difference, "< 0.0001", "< 0.0001", "60"]
    header, ((*_, mean, half_width, level, p_value, corrected, episodes),) = pairs_csv_rows(pairs)
    assert len(header) == 9
    assert (mean, half_width, level, episodes) == (interval.mean, interval.half_width, 0.95, 60)
    assert p_value == corrected == pairs[0].difference.p_value


def test_p_values_are_corrected_over_the_pairs_on_the_same_episodes(make_run: MakeRun) -> None:
    means = (0.95, 0.9505, 0.952)
    runs = [make_run("r" * (1 + number), mean=mean) for number, mean in enumerate(means)]  # other names, other noise
    pairs = _pairs(*runs, make_run("lone", test={"shots": 5}))
    plain = [pair.difference.p_value for pair in pairs]
    assert [pair.corrected for pair in pairs] == pytest.approx(multipletests(plain, method="holm")[1])
    assert [pair.corrected for pair in pairs] != plain
