"""Main effects, interactions, ranks and cost of a sweep whose effects are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import MakeRun, training_block
from made_sweep import DATA, STEPS, TOGETHER, WORTH, make_sweep, one_run
from scipy import stats
from statsmodels.stats.multitest import multipletests

from metaloop.records.runs import Run, find_runs, read_run
from metaloop.report.figures.effect_plots import (
    cost_figure,
    cost_front,
    heat_map,
    interaction_figure,
    main_effect_figure,
    pareto,
    rank_figure,
)
from metaloop.report.figures.theme import DARK, LIGHT
from metaloop.report.pages.ablation import sections
from metaloop.report.tables.effects import effects_table, interactions, main_effects
from metaloop.report.tables.facts import fact, varied
from metaloop.report.tables.rows import group_rows


@pytest.fixture
def runs(make_run: MakeRun) -> list[Run]:
    return find_runs([make_sweep(make_run)])[0]


def test_main_effects_are_those_that_were_put_in(runs: list[Run]) -> None:
    algorithm, steps, dataset = main_effects(runs, varied(runs))
    assert (algorithm.key, algorithm.settings, steps.settings, dataset.settings) == ("algorithm", 4, 6, 6)
    means = {level.value: level.interval.mean for level in algorithm.levels}
    expected = {name: worth + (TOGETHER / 2 if name == "anil" else 0.0) for name, worth in WORTH.items()}
    assert {name: mean - means["maml"] for name, mean in means.items()} == pytest.approx(expected)
    first = algorithm.levels[0]
    assert first.difference is None
    assert first.p_value is None
    for level in algorithm.levels[1:]:
        assert level.difference.mean == pytest.approx(means[level.value] - means[first.value])
    assert steps.levels[1].difference.mean == pytest.approx(STEPS[5] + TOGETHER / 3)
    assert dataset.levels[1].interval.mean - dataset.levels[0].interval.mean == pytest.approx(0.05)
    assert dataset.levels[1].difference is None  # other data have other episodes, which nothing pairs
    table = effects_table({"glyphs, 5-way 1-shot": [algorithm, steps, dataset]})
    assert [row[1].text for row in table.rows] == ["algorithm"] * 3 + ["algorithm.steps"] * 2 + ["dataset"] * 2


def test_only_settings_in_which_all_values_were_run_are_compared(runs: list[Run]) -> None:
    """Without boil's five steps, algorithms are compared at one step alone, and steps without boil."""
    some = [run for run in runs if (fact(run, "algorithm"), fact(run, "algorithm.steps")) != ("boil", 5)]
    algorithm, steps, _ = main_effects(some, varied(some))
    assert algorithm.settings == 2
    means = {level.value: level.interval.mean for level in algorithm.levels}
    assert means["boil"] - means["maml"] == pytest.approx(WORTH["boil"])
    assert steps.settings == 4  # of maml and anil


def test_one_change_at_a_time_is_compared_with_what_was_not_changed(make_run: MakeRun) -> None:
    runs = []
    for algorithm, steps in (("maml", 1), ("anil", 1), ("maml", 5)):
        runs.append(read_run(make_run(f"{algorithm}{steps}", **one_run(algorithm, steps, "glyphs", 0), samples=False)))
    effects = main_effects(runs, varied(runs))
    assert [(effect.key, effect.settings) for effect in effects] == [("algorithm", 1), ("algorithm.steps", 1)]
    assert interactions(runs, varied(runs)) == []


def test_the_contrast_is_what_two_keys_do_together(runs: list[Run]) -> None:
    pairs = {found.keys: found for found in interactions(runs, varied(runs))}
    assert list(pairs) == [("algorithm", "algorithm.steps"), ("algorithm", "dataset"), ("algorithm.steps", "dataset")]
    found = pairs["algorithm", "algorithm.steps"]
    first, last = found.rows[0], found.rows[-1]
    together = (TOGETHER if last == "anil" else 0.0) - (TOGETHER if first == "anil" else 0.0)
    assert found.contrast.mean == pytest.approx(together)
    assert found.contrast.half_width < abs(together)
    assert found.means.shape == (3, 2)
    assert found.means[found.rows.index("boil"), 1] - found.means[found.rows.index("maml"), 1] == pytest.approx(WORTH["boil"])
    assert pairs["algorithm", "dataset"].contrast is None


def test_figures_show_every_value(runs: list[Run]) -> None:
    effects, pairs = main_effects(runs, varied(runs)), interactions(runs, varied(runs))
    for theme in (LIGHT, DARK):
        figure = main_effect_figure(effects, theme)
        assert [ax.get_xlabel() for ax in figure.axes] == ["algorithm", "steps", "dataset"]
        assert [[tick.get_text() for tick in ax.get_xticklabels()] for ax in figure.axes][1:] == [
            ["1", "5"],
            ["glyphs", "omniglot"],
        ]
        heat = heat_map(pairs[0], theme).axes[0]
        assert sorted(text.get_text() for text in heat.texts) == sorted(f"{100 * value:.2f}" for value in pairs[0].means.flat)
        lines = interaction_figure(pairs[0], theme).axes[0].lines
        assert [list(line.get_ydata()) for line in lines] == (100 * pairs[0].means.T).tolist()
    assert main_effect_figure([], LIGHT) is None


def test_a_heat_map_shows_what_was_not_run(runs: list[Run]) -> None:
    some = [run for run in runs if (fact(run, "algorithm"), fact(run, "algorithm.steps")) != ("boil", 5)]
    found = interactions(some, ("algorithm", "algorithm.steps"))[0]
    assert np.isnan(found.means).sum() == 1
    assert [text.get_text() for text in heat_map(found, LIGHT).axes[0].texts].count("–") == 1


def test_ranks_need_three_data_sets(make_run: MakeRun) -> None:
    folder = make_sweep(make_run, data=("a", "b", "c", "d"))
    runs = find_runs([folder])[0]
    by_name = {section.name: section for section in sections(group_rows(runs))}
    assert "Friedman's test that all methods are equal: p 0.0" in by_name["ranks"].note
    assert "Mean ranks over 4 data sets" in by_name["ranks"].note
    two = [run for run in runs if fact(run, "dataset") in ("a", "b")]
    assert "ranks" not in {section.name for section in sections(group_rows(two))}


def test_the_rank_figure_names_every_method_with_its_rank() -> None:
    from metaloop.metrics.multiple_comparisons import rank_methods

    ranking = rank_methods([[3.0, 1.0, 2.0]] * 5, higher_is_better=True)
    texts = {text.get_text() for text in rank_figure(ranking, ["good", "bad", "_so_so_"], DARK).axes[0].texts}
    assert {"good (1.00)", "_so_so_ (2.00)", "bad (3.00)"} <= texts


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30), st.booleans())
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]], higher: bool) -> None:
    costs, scores = [cost for cost, _ in points], [score for _, score in points]

    def beats(a: int, b: int) -> bool:
        gain = scores[a] - scores[b] if higher else scores[b] - scores[a]
        return costs[a] <= costs[b] and gain >= 0 and (costs[a] < costs[b] or gain > 0)

    expected = {points[b] for b in range(len(points)) if not any(beats(a, b) for a in range(len(points)))}
    front = pareto(costs, [score if higher else -score for score in scores])
    assert {points[i] for i in front} == expected
    assert len(front) == len(expected)


def test_cost_is_of_rows_that_were_timed(make_run: MakeRun) -> None:
    runs = []
    for number, (name, seconds) in enumerate((("slow", 900.0), ("fast", 30.0), ("worse", 60.0), ("untimed", None))):
        training = training_block(wall_seconds=seconds) if seconds else None
        told = {"overrides": [f"algorithm={name}"], "algorithm": name, "training": training, "mean": 0.9 - 0.02 * number}
        runs.append(read_run(make_run(name, **told, samples=False)))
    rows = group_rows(runs)
    assert [row.label for row in cost_front(rows)] == ["fast", "slow"]
    figure = cost_figure(rows, LIGHT)
    assert figure.axes[0].get_xscale() == "log"
    assert cost_figure(rows[:1], LIGHT) is None


def test_p_values_are_corrected_over_the_values_of_a_key(runs: list[Run]) -> None:
    algorithm = main_effects(runs, varied(runs))[0]
    cells = {name: [run for run in runs if fact(run, "algorithm") == name] for name in WORTH}
    scores = {  # an episode's mean over steps and seeds, of each data set
        name: [np.mean([run.scores for run in some if fact(run, "dataset") == data], axis=0) for data in DATA]
        for name, some in cells.items()
    }
    first = algorithm.levels[0].value
    raw = []
    for level in algorithm.levels[1:]:
        gaps = [one - other for one, other in zip(scores[level.value], scores[first], strict=True)]
        raw.append(stats.ttest_ind(gaps[0], -gaps[1], equal_var=False).pvalue)
    assert [level.p_value for level in algorithm.levels[1:]] == pytest.approx(multipletests(raw, method="holm")[1], rel=1e-6)


def test_runs_that_diverged_both_ways_leave_no_contrast(make_run: MakeRun) -> None:
    runs = []
    for number, (name, steps) in enumerate([("maml", 1), ("maml", 5), ("anil", 1), ("anil", 5)]):
        scores = np.linspace(0.1, 0.9, 8)
        scores[0] = np.inf if number in (0, 1) else 0.1
        told = one_run(name, steps, "sine", 0)
        runs.append(read_run(make_run(f"r{number}", **told, problem="regression", scores=scores, samples=False)))
    (found,) = interactions(runs, varied(runs))
    assert np.isnan(found.contrast.mean)
    assert found.contrast.half_width is None
    assert main_effects(runs, varied(runs))[0].levels[1].p_value is None
    for theme in (LIGHT, DARK):
        assert main_effect_figure(main_effects(runs, varied(runs)), theme) is not None
        assert [text.get_text() for text in heat_map(found, theme).axes[0].texts].count("diverged") == 2


def test_of_a_run_that_was_repeated_the_newer_counts(make_run: MakeRun, runs: list[Run]) -> None:
    """Whichever was read first; the older is no further seed."""
    told = one_run("boil", 5, "glyphs", 0)
    again = make_run("again", **told, created="2026-02-02T00:00:00+00:00", scores=np.full(80, 0.1), samples=False)
    effects = [main_effects(some, varied(runs))[0] for some in ([read_run(again), *runs], [*runs, read_run(again)])]
    means = [{level.value: level.interval.mean for level in effect.levels} for effect in effects]
    assert means[0] == pytest.approx(means[1])
    before = {level.value: level.interval.mean for level in main_effects(runs, varied(runs))[0].levels}
    old = next(run for run in runs if run.seed == 0 and fact(run, "algorithm.steps") == 5 and run.name == "boil_glyphs")
    assert means[0]["boil"] == pytest.approx(before["boil"] + (0.1 - old.scores.mean()) / 12)


def test_settings_with_further_data_at_one_value_alone_are_not_compared(make_run: MakeRun, runs: list[Run]) -> None:
    more = make_run("more", **one_run("boil", 5, "third", 0), scores=np.full(80, 0.1), samples=False)
    found = main_effects([*runs, read_run(more)], ("algorithm", "algorithm.steps"))
    assert [(effect.key, effect.settings) for effect in found] == [("algorithm", 1), ("algorithm.steps", 2)]
