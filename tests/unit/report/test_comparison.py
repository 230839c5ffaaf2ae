"""Two runs compared: the difference, who is ahead where, what differs in their settings."""

from pathlib import Path

import numpy as np
import pytest
from made_runs import MakeRun
from made_sweep import one_run
from scipy import stats

from metaloop.errors import UserError
from metaloop.records.runs import read_run
from metaloop.report.comparison import compare_runs, difference_text, scatter
from metaloop.report.figures.theme import DARK, LIGHT
from metaloop.report.pages.comparison_page import write_comparison

FIRST = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.9])
SECOND = np.array([0.8, 0.8, 0.2, 0.65, 0.9, 0.8])


def _pair(make_run: MakeRun, kind: str = "classification", **more: object) -> tuple[Path, Path]:
    first = make_run("first", **one_run("maml", 1, "glyphs", 0), problem=kind, scores=FIRST)
    second = make_run("second", **{**one_run("anil", 5, "glyphs", 0), **more}, problem=kind, scores=SECOND)
    return first, second


def test_the_difference_is_paired_and_the_disagreements_are_the_largest(make_run: MakeRun) -> None:
    found = compare_runs(*map(read_run, _pair(make_run)))
    assert found.names == ("maml_glyphs", "anil_glyphs")
    assert found.difference.interval.mean == pytest.approx((FIRST - SECOND).mean())
    assert found.difference.p_value == pytest.approx(stats.ttest_rel(FIRST, SECOND).pvalue)
    assert found.ahead == (3, 1, 2)
    assert found.apart() == ([2, 5, 0], [4, 3])
    p_value = found.difference.p_value
    assert difference_text(found).endswith(f", p = {p_value:.4f}")
    assert found.settings == [("algorithm.steps", "1", "5")]


def test_of_errors_the_smaller_is_ahead(make_run: MakeRun) -> None:
    found = compare_runs(*map(read_run, _pair(make_run, "regression")))
    assert found.ahead == (2, 1, 3)
    assert found.apart() == ([4, 3], [2, 0, 5])


def test_only_episodes_of_both_are_compared(make_run: MakeRun) -> None:
    first, _ = _pair(make_run)
    more = make_run("more", **one_run("anil", 5, "glyphs", 0), scores=np.concatenate([SECOND, [0.1, 0.2]]))
    found = compare_runs(read_run(first), read_run(more))
    assert list(found.episodes) == list(range(6))
    assert found.difference.interval.mean == pytest.approx((FIRST - SECOND).mean())


def test_an_episode_that_diverged_is_lost_and_not_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = (
        make_run(name, **one_run(name, 1, "glyphs", 0), problem="regression", scores=np.array(scores), samples=False)
        for name, scores in (("maml", [0.1, np.inf, np.nan, np.inf]), ("anil", [0.2, 0.3, np.inf, 0.1]))
    )
    found = compare_runs(read_run(first), read_run(second))
    assert found.ahead == (1, 1, 2)
    assert found.apart() == ([0], [1, 3])
    assert len(scatter(found, LIGHT).axes[0].collections[0].get_offsets()) == 1
    page = write_comparison(found, lambda which, numbers: [], "no checkpoint", tmp_path / "out")
    assert "A run diverged in 3 of the episodes" in page.read_text()
    lost = make_run("lost", **one_run("boil", 1, "glyphs", 0), problem="regression", scores=np.full(4, np.nan), samples=False)
    assert scatter(compare_runs(read_run(first), read_run(lost)), LIGHT) is None
    write_comparison(compare_runs(read_run(first), read_run(lost)), lambda which, numbers: [], "no", tmp_path / "none")
    assert not (tmp_path / "none" / "scatter.png").exists()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"test": {"shots": 5}}, "shots 1 and 5"),
        ({"test": {"seed": 3}}, "seed 0 and 3"),
        ({"dataset": "omniglot"}, "data set glyphs and omniglot"),
    ],
)
def test_other_episodes_are_refused_with_the_remedy(make_run: MakeRun, more: dict[str, object], part: str) -> None:
    told = one_run("anil", 5, str(more.pop("dataset", "glyphs")), 0)
    first, second = _pair(make_run, **{**told, **more})
    with pytest.raises(UserError, match=part) as error:
        compare_runs(read_run(first), read_run(second))
    assert f"metaloop evaluate run={second}" in str(error.value)


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun) -> None:
    runs = [make_run(folder, **one_run("maml", 1, "glyphs", seed)) for seed, folder in enumerate(("one", "two"))]
    found = compare_runs(*map(read_run, runs))
    assert found.names == ("one", "two")
    assert found.settings == [("seed", "0", "1")]


def test_the_figure_has_every_episode(make_run: MakeRun) -> None:
    found = compare_runs(*map(read_run, _pair(make_run)))
    for theme in (LIGHT, DARK):
        points, beside = scatter(found, theme).axes
        sizes = points.collections[0].get_sizes()
        assert sizes.sum() == pytest.approx(9 * 6)
        assert len(sizes) == 5  # two episodes lie on one point
        assert sum(bar.get_height() for bar in beside.patches) == 6


def test_the_page_says_why_there_are_no_pictures(make_run: MakeRun, tmp_path: Path) -> None:
    found = compare_runs(*map(read_run, _pair(make_run)))

    def never(which: int, numbers: object) -> list[dict[str, np.ndarray]]:
        raise AssertionError("asked for what is not there")

    page = write_comparison(found, never, "no checkpoint at <here>", tmp_path / "out")
    text = page.read_text()
    assert "The episodes are not shown: no checkpoint at &lt;here&gt;" in text
    assert "algorithm.steps" in text
    assert (tmp_path / "out" / "scatter.png").is_file()
    assert text.count("<img") == 1
