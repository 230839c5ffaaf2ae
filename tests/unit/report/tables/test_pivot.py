"""Pivots against numbers that are known, against scipy and statsmodels, and against LaTeX."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_runs import MakeRun
from made_sweep import DATA, MEAN, SEED, STEPS, TOGETHER, WORTH, cell, exact_scores, make_sweep, one_run
from scipy import stats
from statsmodels.stats.multitest import multipletests

from metaloop.errors import UserError
from metaloop.records.runs import Run, find_runs, read_run
from metaloop.report.tables.facts import fact, fits, levels, varied
from metaloop.report.tables.pivot import Pivot, make_pivot
from metaloop.report.tables.pivot_tables import pivot_csv, pivot_table
from metaloop.report.tables.question import Question, default_question
from metaloop.report.tables.results import to_latex, to_markdown


@pytest.fixture
def runs(make_run: MakeRun) -> list[Run]:
    return find_runs([make_sweep(make_run)])[0]


def _scores(runs: list[Run], **wanted: object) -> np.ndarray:
    """An episode's mean over the runs with these values."""
    chosen = [run for run in runs if all(fact(run, key) == value for key, value in wanted.items())]
    return np.mean([run.scores for run in chosen], axis=0)


def test_cells_hold_mean_interval_and_spread(runs: list[Run]) -> None:
    pivot = make_pivot(runs, Question(("algorithm", "algorithm.steps"), ("dataset",)))
    assert pivot.columns == (("glyphs",), ("omniglot",))
    names = sorted(WORTH, key=lambda name: -WORTH[name])  # the best first
    assert pivot.rows == tuple((algorithm, steps) for algorithm in names for steps in STEPS)
    for (algorithm, steps), (dataset,) in pivot.entries:
        entry = pivot.entries[(algorithm, steps), (dataset,)]
        means = [cell(str(algorithm), int(steps), str(dataset), seed) for seed in SEED]
        assert entry.interval.mean == pytest.approx(np.mean(means))
        assert (entry.spread.n, entry.spread.sd) == (3, pytest.approx(np.std(means, ddof=1)))
        scores = [run.scores for run in runs if (run.name, fact(run, "algorithm.steps")) == (f"{algorithm}_{dataset}", steps)]
        low, high = stats.t.interval(0.95, 79, np.mean(scores), stats.sem(np.mean(scores, axis=0)))
        assert entry.interval.half_width == pytest.approx((high - low) / 2)


def test_the_best_and_what_is_like_it_are_marked_by_corrected_paired_tests(runs: list[Run]) -> None:
    pivot = make_pivot([run for run in runs if fact(run, "algorithm.steps") == 1], Question(("algorithm",), ("dataset",)))
    for dataset in DATA:
        column = pivot.column((dataset,))
        means = {row[0]: column[row].interval.mean for row in column}
        best = max(means, key=lambda name: means[name])
        assert best == "boil"
        assert [row[0] for row in column if column[row].best] == [best]
        others = [name for name in WORTH if name != best]
        own = {name: _scores(runs, **{"algorithm": name, "algorithm.steps": 1, "dataset": dataset}) for name in WORTH}
        spread = np.std([cell(best, 1, dataset, seed) for seed in SEED], ddof=1)  # the same for all
        p_values = [_p_value_with_seeds(own[name] - own[best], spread) for name in others]
        third = stats.ttest_rel(own[others[0]], own[others[1]]).pvalue  # the pair without the best belongs to the family
        assert third < min(p_values)
        expected = dict(zip(others, multipletests([*p_values, 1.0], method="holm")[1], strict=False))
        assert {row[0]: entry.p_best for row, entry in column.items() if not entry.best} == pytest.approx(expected, rel=1e-9)
        assert {row[0] for row, entry in column.items() if entry.alike} == {"maml"}  # half a thousandth worse


def _p_value_with_seeds(differences: np.ndarray, spread: float) -> float:
    """Welch's test whose variance is that of the mean over episodes and of the means over the seeds of both methods."""
    variances = np.array([differences.var(ddof=1) / len(differences), spread**2 / len(SEED), spread**2 / len(SEED)])
    freedom = variances.sum() ** 2 / (variances**2 / [len(differences) - 1, len(SEED) - 1, len(SEED) - 1]).sum()
    return 2 * float(stats.t.sf(abs(differences.mean()) / np.sqrt(variances.sum()), freedom))


def test_E19_rows_that_begin_with_a_name_come_best_first_and_numbers_in_their_order(runs: list[Run]) -> None:
    pivot = make_pivot(runs, Question(("algorithm",), ("algorithm.steps", "dataset")))
    assert [row[0] for row in pivot.rows] == sorted(WORTH, key=lambda name: -WORTH[name])
    by_steps = make_pivot(runs, Question(("algorithm.steps", "algorithm"), ("dataset",)))
    assert [row[0] for row in by_steps.rows] == [steps for steps in sorted(STEPS) for _ in WORTH]


def test_errors_are_best_when_small(make_run: MakeRun) -> None:
    runs = []
    for number, name in enumerate(("one", "two")):
        told = {"overrides": [f"algorithm={name}"], "algorithm": name, "problem": "regression"}
        runs.append(read_run(make_run(name, **told, scores=np.linspace(0.1, 0.9, 40) + 0.05 * number, samples=False)))
    column = make_pivot(runs, Question(("algorithm",))).column(())
    assert {row[0]: entry.best for row, entry in column.items()} == {"one": True, "two": False}


def test_the_difference_to_a_baseline_is_paired(runs: list[Run]) -> None:
    question = Question(("algorithm",), ("algorithm.steps",), ("dataset",), {"algorithm": "maml"})
    pivot = make_pivot(runs, question)
    for steps in STEPS:
        column = pivot.column((steps,))
        assert column[("maml",)].against is None
        for name in ("anil", "boil"):
            expected = WORTH[name] + (TOGETHER if (name, steps) == ("anil", 5) else 0.0)
            found = column[(name,)].against
            assert found.interval.mean == pytest.approx(expected, abs=1e-12)
            assert found.interval.n == 160  # the episodes of two data sets
            assert found.interval.half_width < 0.7 * column[(name,)].interval.half_width  # the episodes' difficulty cancels
    table = to_markdown(pivot_table(pivot))
    assert re.search(r"\| anil \| .* −1\.00 ± 0\.\d+\\\* \|", table)
    assert "Averaged over dataset" in table


def test_what_is_averaged_over_counts_the_same(runs: list[Run]) -> None:
    pivot = make_pivot(runs, Question(("algorithm",), (), ("algorithm.steps", "dataset")))
    expected = {name: MEAN + worth + 0.01 + 0.025 + (TOGETHER / 2 if name == "anil" else 0) for name, worth in WORTH.items()}
    assert {row[0]: entry.interval.mean for row, entry in pivot.column(()).items()} == pytest.approx(expected)
    assert {entry.spread.n for entry in pivot.entries.values()} == {3}


def test_runs_that_differ_in_more_than_the_seed_are_no_cell(runs: list[Run]) -> None:
    with pytest.raises(
        UserError, match=r"cell algorithm=anil holds runs that differ in algorithm\.steps, dataset: add .* --over"
    ):
        make_pivot(runs, Question(("algorithm",)))
    with pytest.raises(UserError, match=r"differ in dataset: add"):
        make_pivot(runs, Question(("algorithm",), (), ("algorithm.steps",)))


def test_of_a_run_that_was_repeated_the_newer_counts(make_run: MakeRun, runs: list[Run]) -> None:
    told = one_run("maml", 1, "glyphs", 0)
    again = make_run("again", **told, created="2026-02-02T00:00:00+00:00", scores=exact_scores(0.5, 0, 1, 0, 80), samples=False)
    pivot = make_pivot([read_run(again), *runs], Question(("algorithm", "algorithm.steps"), ("dataset",)))
    entry = pivot.entries[("maml", 1), ("glyphs",)]
    assert entry.interval.mean == pytest.approx(np.mean([0.5, *(cell("maml", 1, "glyphs", seed) for seed in (1, 2))]))
    assert "1 older run of a setting and seed" in pivot_table(pivot).caption


def test_cells_on_other_episodes_are_not_compared(make_run: MakeRun, runs: list[Run]) -> None:
    few = make_run("few", **one_run("anil", 10, "glyphs", 0), scores=exact_scores(0.9, 1, 10, 0, 30), samples=False)
    pivot = make_pivot([*runs, read_run(few)], Question(("algorithm", "algorithm.steps"), ("dataset",)))
    entry = pivot.entries[("anil", 10), ("glyphs",)]
    assert entry.best
    assert all(other.p_best is None for row, other in pivot.column(("glyphs",)).items() if row != ("anil", 10))
    assert (("anil", 10), ("omniglot",)) not in pivot.entries
    assert "30 to 80 meta-test episodes; 1 to 3 seeds" in pivot_table(pivot).caption


@pytest.mark.parametrize(
    ("question", "match"),
    [
        (Question(("algoritm",)), "no run has the key 'algoritm'; did you mean algorithm"),
        (Question(("algorithm", "algorithm.steps", "dataset"), (), (), {"model": "conv4"}), "not a key of --rows"),
        (Question(("algorithm", "algorithm.steps", "dataset"), (), (), {"algorithm": "mamml"}), "fits 0 rows; name one"),
        (Question(("algorithm", "algorithm.steps", "dataset"), (), (), {"algorithm": "maml"}), "fits 4 rows"),
    ],
)
def test_mistakes_are_told(runs: list[Run], question: Question, match: str) -> None:
    with pytest.raises(UserError, match=match):
        make_pivot(runs, question)


def test_what_is_asked_by_default(runs: list[Run]) -> None:
    assert varied(runs) == ("algorithm", "algorithm.steps", "dataset")
    assert default_question(runs) == Question(("algorithm", "algorithm.steps"), ("dataset",))
    assert default_question(runs, columns=("algorithm.steps",)) == Question(("algorithm", "dataset"), ("algorithm.steps",))
    one = [run for run in runs if fact(run, "dataset") == "glyphs"]
    assert default_question(one) == Question(("algorithm",), ("algorithm.steps",))
    assert default_question(one, over=("algorithm.steps",)) == Question(("algorithm",), (), ("algorithm.steps",))
    assert (
        default_question([run for run in one if fact(run, "algorithm") == "maml" and fact(run, "algorithm.steps") == 1]) is None
    )


def test_a_key_that_says_what_another_says_is_no_key_of_its_own(make_run: MakeRun) -> None:
    runs = []
    for name, rate in (("maml", 0.4), ("anil", 0.1)):
        told = one_run(name, 1, "glyphs", 0)
        told["overrides"] = [f"algorithm={name}", f"algorithm.rate={rate}"]
        told["config"]["algorithm"]["rate"] = rate
        runs.append(read_run(make_run(name, **told, samples=False)))
    assert varied(runs) == ("algorithm",)


def _all_kinds(runs: list[Run]) -> Pivot:
    return make_pivot(
        runs, Question(("algorithm", "algorithm.steps"), ("dataset",), (), {"algorithm": "maml", "algorithm.steps": "1"})
    )


def test_the_csv_has_a_line_a_cell_in_full_precision(runs: list[Run]) -> None:
    pivot = _all_kinds(runs)
    lines = list(csv.DictReader(io.StringIO(pivot_csv(pivot))))
    assert len(lines) == len(pivot.entries) == 12
    for line in lines:
        entry = pivot.entries[(line["algorithm"], int(line["algorithm.steps"])), (line["dataset"],)]
        assert float(line["mean"]) == entry.interval.mean
        assert float(line["half_width"]) == entry.interval.half_width
        assert (line["best"] == "True") == entry.best
        assert (line["difference"] == "") == (entry.against is None)


def test_markdown_marks_the_best_and_its_like(runs: list[Run]) -> None:
    text = to_markdown(
        pivot_table(make_pivot([r for r in runs if fact(r, "algorithm.steps") == 1], Question(("algorithm",), ("dataset",))))
    )
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert rows["boil"].count("**") == 4
    assert rows["maml"].count("≈") == 2
    assert "≈" not in rows["anil"]


def test_latex_compiles(runs: list[Run], tmp_path: Path) -> None:
    table = to_latex(pivot_table(_all_kinds(runs)))
    assert table.count(r"\textbf{") == 2
    assert r"\begin{tabular}{lrrrrr}" in table
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex on the PATH to compile what was written")
    whole = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}\small {table}\end{{document}}"
    (tmp_path / "table.tex").write_text(whole)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-1500:]


def test_a_sparse_key_is_no_column(make_run: MakeRun) -> None:
    """One change at a time: a column for each value would be almost empty. Numbers of a random search stay keys, each."""
    runs = []
    for number, (rate, steps) in enumerate(((0.1, 1), (0.2, 5), (0.3, 10))):
        told = one_run("maml", steps, "glyphs", 0)
        told["overrides"] = [f"algorithm.rate={rate}", f"algorithm.steps={steps}"]
        told["config"]["algorithm"]["rate"] = rate
        runs.append(read_run(make_run(f"r{number}", **told, samples=False)))
    assert default_question(runs) == Question(("algorithm.rate", "algorithm.steps"))


def test_cells_averaged_over_other_values_are_not_compared(runs: list[Run]) -> None:
    """Without anil's five steps its mean over steps is lower for that alone."""
    some = [run for run in runs if (fact(run, "algorithm"), fact(run, "algorithm.steps")) != ("anil", 5)]
    pivot = make_pivot(some, Question(("algorithm",), ("dataset",), ("algorithm.steps", "seed"), {"algorithm": "anil"}))
    column = pivot.column(("glyphs",))
    assert column[("boil",)].best
    assert column[("maml",)].p_best is not None
    assert column[("anil",)].p_best is None
    assert all(entry.against is None for entry in column.values())
    assert "averaged over different values are not compared" in pivot_table(pivot).caption
    whole = make_pivot(runs, Question(("algorithm",), ("dataset",), ("algorithm.steps",)))
    assert "not compared" not in pivot_table(whole).caption


def test_seeds_that_cells_do_not_share_still_compare(runs: list[Run]) -> None:
    some = [run for run in runs if (fact(run, "algorithm"), run.seed) != ("anil", 2)]
    column = make_pivot(some, Question(("algorithm",), ("dataset",), ("algorithm.steps", "seed"))).column(("glyphs",))
    assert (column[("anil",)].spread.n, column[("maml",)].spread.n) == (2, 3)
    assert column[("anil",)].p_best is not None


def test_runs_that_diverged_are_no_best_and_break_nothing(make_run: MakeRun) -> None:
    runs = []
    bad, good = np.array([np.inf, *[1.0] * 9]), np.linspace(0.1, 0.9, 10)
    table = {"a": (good, good), "b": (bad, good), "c": (good, bad), "d": (np.full(10, np.nan), good)}
    for name, each in table.items():
        for dataset, scores in zip(("sine", "steps"), each, strict=True):
            told = one_run(name, 1, dataset, 0)
            runs.append(read_run(make_run(name + dataset, **told, problem="regression", scores=scores, samples=False)))
    column = make_pivot(runs, Question(("algorithm",), (), ("dataset",), {"algorithm": "b"})).column(())
    assert {row[0]: entry.best for row, entry in column.items()} == {"a": True, "b": False, "c": False, "d": False}
    assert np.isnan(column[("c",)].against.interval.mean)
    assert column[("c",)].p_best is None
    assert not column[("c",)].alike


def test_a_value_is_named_as_it_is_shown_or_as_configs_have_it() -> None:
    for value, text in ((0.001, "0.001"), (0.001, "1e-3"), (5, "5.0"), (True, "yes"), (True, "true"), (False, "False")):
        assert fits(value, text)
    assert fits(None, "null")
    assert fits(1 / 3, "0.333333")
    for value, text in ((True, "1"), (1, "true"), (None, "0"), ("maml", "MAML"), (0.1, "0.2"), (False, "no way")):
        assert not fits(value, text)


def test_levels_are_numbers_in_order_and_then_the_rest() -> None:
    assert levels([10, None, 2, "auto", 0.5, True]) == [0.5, 2, 10, None, "auto", True]
    assert levels(["b", "a", "b"]) == ["b", "a"]


def test_p_values_against_the_baseline_are_corrected_over_the_column(runs: list[Run]) -> None:
    question = Question(("algorithm",), ("dataset",), (), {"algorithm": "maml"})
    column = make_pivot([run for run in runs if fact(run, "algorithm.steps") == 1], question).column(("glyphs",))
    raw = {row: entry.against.p_value for row, entry in column.items() if entry.against}
    expected = dict(zip(raw, multipletests(list(raw.values()), method="holm")[1], strict=True))
    found = {row: entry.p_against for row, entry in column.items() if entry.against}
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != raw


def test_the_spread_is_of_seeds_that_all_settings_had(runs: list[Run]) -> None:
    """A seed of one setting alone would be another setting's spread, not the seeds'."""
    some = [run for run in runs if (fact(run, "algorithm.steps"), run.seed) != (5, 2)]
    entries = make_pivot(some, Question(("algorithm",), ("dataset",), ("algorithm.steps",))).entries
    assert {entry.spread.n for entry in entries.values()} == {2}
    assert entries[("maml",), ("glyphs",)].spread.sd == pytest.approx(np.std([SEED[0], SEED[1]], ddof=1))


def test_accuracies_and_errors_are_neither_averaged_nor_ranked_together(make_run: MakeRun) -> None:
    runs = []
    for name, kind in (("maml", "classification"), ("anil", "regression")):
        runs.append(read_run(make_run(name, **one_run(name, 1, kind, 0), problem=kind, samples=False)))
    with pytest.raises(UserError, match="the column the table mixes accuracy and mse"):
        make_pivot(runs, Question(("algorithm",)))
    with pytest.raises(UserError, match=r"the cell algorithm\.steps=1 holds accuracy and mse"):
        make_pivot(runs, Question(("algorithm.steps",), (), ("algorithm", "dataset")))


def test_columns_are_the_data_or_else_the_last_key_with_few_values(make_run: MakeRun, runs: list[Run]) -> None:
    assert default_question(runs) == Question(("algorithm", "algorithm.steps"), ("dataset",))
    one = [run for run in runs if fact(run, "dataset") == "glyphs"]
    assert default_question(one) == Question(("algorithm",), ("algorithm.steps",))
    same = [run for run in runs if (fact(run, "algorithm"), fact(run, "algorithm.steps")) == ("maml", 1)]
    assert default_question(same) == Question(("dataset",))
    wide = []
    for steps in range(9):
        for name in ("maml", "anil"):
            wide.append(read_run(make_run(f"w{name}{steps}", **one_run(name, steps, "glyphs", 0), samples=False)))
    assert default_question(wide) == Question(("algorithm", "algorithm.steps"))


def test_without_options_what_was_not_overridden_tells_settings_apart_too(make_run: MakeRun) -> None:
    """A default that changed, and a later evaluation with more episodes, are no reason to show nothing."""
    runs = []
    for number, (name, episodes, norm) in enumerate([("maml", 80, 1), ("anil", 80, 1), ("maml", 200, 1), ("anil", 80, 2)]):
        told = one_run(name, 1, "glyphs", 0)
        told["config"]["norm"] = norm
        scores = exact_scores(0.8, 0, 1, 0, episodes)
        runs.append(read_run(make_run(f"r{number}", **told, scores=scores, samples=False)))
    question = default_question(runs)
    assert question == Question(("algorithm", "norm"), ("episodes",))
    assert len(make_pivot(runs, question).entries) == 4
    with pytest.raises(UserError, match="differ in episodes"):
        make_pivot([runs[0], runs[2]], Question(("algorithm",)))
