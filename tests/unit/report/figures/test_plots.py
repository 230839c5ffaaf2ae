"""What the figures show, read back from matplotlib's artists."""

import base64
import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from made_runs import MakeRun
from made_samples import band_samples, function_samples, image_samples
from matplotlib.figure import Figure

from metaloop.problems.metric import TOTAL_REWARD
from metaloop.records.runs import read_run
from metaloop.report.figures.pictures import picture
from metaloop.report.figures.plots import adaptation_curves, learning_curves
from metaloop.report.figures.sheets import episode_sheet, regression_figure, sample_figure
from metaloop.report.figures.theme import DARK, LIGHT, Theme, png
from metaloop.report.tables.rows import Row, group_rows


def _rows(*directories: Path) -> list[Row]:
    return group_rows(map(read_run, directories))


def _labels(figure: Figure | None) -> list[tuple[str, str]]:
    assert figure is not None
    return [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]


def _legend(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_learning_curves_of_one_run(make_run: MakeRun) -> None:
    rows = _rows(make_run("a"))
    figure = learning_curves(rows, LIGHT)
    assert _labels(figure) == [("outer step", "loss"), ("outer step", "accuracy (%)")]
    assert _legend(figure) == [
        "meta-train (running mean of 4)",
        "meta-validation, adapted",
        "meta-validation, before adaptation",
    ]
    steps, values = rows[0].first.metrics["validation/score"]
    drawn = [line for line in figure.axes[1].lines if len(line.get_xdata()) == len(steps)]
    assert np.array_equal(drawn[0].get_xdata(), steps)
    assert drawn[0].get_ydata() == pytest.approx(100 * values)


def test_curves_of_several_rows_have_a_colour_each_and_a_line_a_seed(make_run: MakeRun) -> None:
    rows = _rows(*(make_run(f"m{s}", name="maml", seed=s) for s in range(2)), make_run("b", name="other"))
    for figure in (learning_curves(rows, LIGHT), adaptation_curves(rows, LIGHT)):
        assert _legend(figure) == ["maml", "other"]
        colours = [line.get_color() for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
        assert colours == [LIGHT.palette[0], LIGHT.palette[0], LIGHT.palette[1]]


def test_adaptation_curve_has_its_interval_and_baseline(make_run: MakeRun) -> None:
    (row,) = _rows(make_run("a"))
    figure = adaptation_curves([row], DARK)
    assert _labels(figure) == [("inner step", "accuracy (%)")]
    (ax,) = figure.axes
    curve = row.first.test.curve
    assert ax.lines[0].get_ydata() == pytest.approx([100 * point.mean for point in curve])
    band = ax.collections[0].get_paths()[0].vertices
    last = band[band[:, 0] == 5][:, 1]
    assert (last.min(), last.max()) == pytest.approx([100 * (curve[-1].mean + sign * curve[-1].half_width) for sign in (-1, 1)])
    assert _legend(figure)[-1] == "nearest neighbour in pixels"
    assert ax.lines[-1].get_ydata() == pytest.approx([64.12, 64.12])
    assert "reported score (inner step 5)" in _legend(figure)


def acting(make_run: MakeRun, name: str, episodes: int = 4) -> Path:
    points = [{"step": step, "mean": 0.5 * step**1.2, "half_width": 0.1} for step in range(1, episodes + 1)]
    returns = [{"step": step, "mean": 1 - 0.5**step, "half_width": 0.2} for step in range(1, episodes + 1)]
    changes = {"curve": points, "returns": returns, "curve_over": "episode", "steps": episodes, "baseline": None}
    return make_run(name, name=name, test=changes, metric=TOTAL_REWARD)


def test_learners_that_act_have_total_rewards_and_returns_over_episodes(make_run: MakeRun) -> None:
    rows = _rows(acting(make_run, "a"), acting(make_run, "b"))
    figure = adaptation_curves(rows, LIGHT)
    assert _labels(figure) == [("episode", "total reward"), ("episode", "return of an episode")]
    assert _legend(figure) == ["a", "b"]
    left, right = figure.axes
    assert right.lines[0].get_ydata() == pytest.approx([0.5, 0.75, 0.875, 0.9375])
    assert left.lines[0].get_ydata() == pytest.approx([0.5 * step**1.2 for step in range(1, 5)])
    assert [len(ax.lines) for ax in (left, right)] == [4, 2]  # a ring at each reported score, on the left alone
    band = right.collections[0].get_paths()[0].vertices
    assert band[band[:, 0] == 4][:, 1].max() == pytest.approx(0.9375 + 0.2)
    (row,) = _rows(acting(make_run, "c"))
    assert "reported score (episode 4)" in _legend(adaptation_curves([row], DARK))


def test_inner_steps_and_episodes_have_axes_of_their_own(make_run: MakeRun) -> None:
    rows = _rows(acting(make_run, "a"), make_run("b", name="b", metric=TOTAL_REWARD, mean=2.0))
    figure = adaptation_curves(rows, LIGHT)
    assert _labels(figure) == [
        ("episode", "total reward"), ("inner step", "total reward"), ("episode", "return of an episode"),
    ]  # fmt: skip
    assert [len(ax.lines) for ax in figure.axes] == [2, 2, 1]
    assert figure.axes[1].lines[0].get_color() == LIGHT.palette[1]


def test_a_run_that_logged_once_has_no_learning_curve(make_run: MakeRun) -> None:
    directory = make_run("a")
    lines = (directory / "metrics.csv").read_text().splitlines()
    (directory / "metrics.csv").write_text("\n".join([lines[0], lines[10]]) + "\n")
    assert learning_curves(_rows(directory), LIGHT) is None


def test_regression_shows_errors_on_a_logarithmic_axis_where_they_span_it(make_run: MakeRun) -> None:
    directory = make_run("a", problem="regression", mean=0.01)
    figure = learning_curves(_rows(directory), LIGHT)
    assert _labels(figure) == [("outer step", "mean squared error")]
    assert figure.axes[0].get_yscale() == "log"
    assert adaptation_curves(_rows(directory), LIGHT).axes[0].get_yscale() == "log"


def test_nothing_logged_no_figure(make_run: MakeRun) -> None:
    directory = make_run("a", test={"curve": [{"step": 0, "mean": 0.9, "half_width": 0.1}]})
    (directory / "metrics.csv").unlink()
    assert learning_curves(_rows(directory), LIGHT) is None
    assert adaptation_curves(_rows(directory), LIGHT) is None


def test_names_are_shown_as_they_are(make_run: MakeRun) -> None:
    names = ["_hidden", r"$\broken_{$", "x" * 200]
    rows = _rows(*(make_run(str(i), name=name) for i, name in enumerate(names)))
    figure = learning_curves(rows, LIGHT)
    assert _legend(figure) == [" _hidden", r"$\broken_{$", "x" * 59 + "…"]
    assert png(figure).startswith(b"\x89PNG")


def test_a_diverged_run_is_drawn(make_run: MakeRun) -> None:
    curve = [{"step": 0, "mean": 1.0, "half_width": 0.1}, {"step": 1, "mean": float("nan"), "half_width": None}]
    directory = make_run("a", problem="regression", test={"curve": curve})
    with (directory / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", "train/score"], [1, 2.0], [2, "nan"], [3, "inf"]])
    rows = _rows(directory)
    assert png(learning_curves(rows, LIGHT)).startswith(b"\x89PNG")
    assert png(adaptation_curves(rows, LIGHT)).startswith(b"\x89PNG")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_sheet_marks_right_and_wrong_by_sign_colour_and_frame(theme: Theme) -> None:
    samples = image_samples()
    (ax,) = episode_sheet(samples, theme).axes
    captions = [text for text in ax.texts if text.get_text()[0] in "✓✗"]
    right = samples["probabilities"].argmax(-1) == samples["query_y"]
    assert [text.get_text()[0] for text in captions] == ["✓" if good else "✗" for good in right]
    assert [text.get_color() for text in captions] == [theme.good if good else theme.bad for good in right]
    assert captions[1].get_text() == f"✗ 3  {100 * samples['probabilities'][1, 2]:.0f} %"
    frames = [patch.get_linestyle() for patch in ax.patches if patch.get_linewidth() == 1.8]
    assert sum(style == "-" for style in frames) == right.sum()
    assert len(ax.images) == len(samples["support_y"]) + len(samples["query_y"])
    assert ax.texts[-1].get_text() == "episode 17: 93.3 % of all queries right"


def test_F20_outer_steps_are_whole_numbers(make_run: MakeRun) -> None:
    figure = learning_curves(_rows(make_run("a")), LIGHT)
    assert figure is not None
    for ax in figure.axes:
        ax.set_xlim(0, 3)
        assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_F20_a_sheet_names_the_classes_that_its_font_can_draw_and_numbers_all() -> None:
    names = np.array(["heron $x_1$", "\u0b85\u0b86", "W" * 40, "ß", ""])  # the second is Tamil, which the font does not have
    (ax,) = episode_sheet(image_samples() | {"names": names}, LIGHT).axes
    rows = [text.get_text() for text in ax.texts if text.get_ha() == "right"]
    assert rows == ["heron $x_1$  1", "class 2", f"{'W' * 23}…  3", "ß  4", "class 5"]
    png(ax.figure)  # warns of nothing
    assert min(text.get_window_extent().x0 for text in ax.texts if text.get_ha() == "right") > 0


def test_a_large_episode_is_cut_and_says_so() -> None:
    samples = image_samples(ways=25, shots=7, queries=9, channels=3)
    (ax,) = episode_sheet(samples, LIGHT).axes
    assert len(ax.images) == 20 * (5 + 6)
    assert ax.texts[-1].get_text().endswith("20 of 25 classes, 5 of 7 shots, 6 of 9 queries per class")


def test_functions_before_and_after_adaptation() -> None:
    samples = function_samples(tasks=6)
    figure = regression_figure(samples, LIGHT)
    assert len(figure.axes) == 4
    assert _legend(figure) == ["true function", "before adaptation", "after adaptation", "support points"]
    for task, ax in enumerate(figure.axes):
        curves = [samples[name][task] for name in ("true", "before", "after")]
        assert all(np.array_equal(line.get_ydata(), curve) for line, curve in zip(ax.lines, curves, strict=True))
        points = np.stack([samples["support_x"][task], samples["support_y"][task]], -1)
        assert np.array_equal(ax.collections[0].get_offsets(), points)


def test_inputs_without_a_picture_make_no_figure() -> None:
    assert sample_figure({"support_x": np.zeros((5, 16)), "support_y": np.zeros(5)}, LIGHT) is None


def test_no_global_state_is_touched(make_run: MakeRun) -> None:
    before = dict(mpl.rcParams)
    png(learning_curves(_rows(make_run("a")), DARK))
    assert dict(mpl.rcParams) == before


def test_bands_are_drawn_around_the_predictive_mean() -> None:
    samples = band_samples()
    figure = regression_figure(samples, LIGHT)
    assert _legend(figure) == ["true function", "predictive mean", "90 % band", "support points"]
    for task, ax in enumerate(figure.axes):
        band, points = ax.collections
        edges = band.get_paths()[0].vertices
        assert edges[:, 1].min() == pytest.approx(samples["low"][task].min())
        assert edges[:, 1].max() == pytest.approx(samples["high"][task].max())
        assert np.isfinite(np.ma.filled(points.get_offsets(), np.nan)).all(1).sum() == 6  # padding is not drawn
        assert ax.get_ylim()[0] < samples["low"].min()


def test_the_dark_picture_is_as_if_it_had_been_laid_out_itself(make_run: MakeRun) -> None:
    rows = _rows(make_run("a"), make_run("b", mean=0.9))
    for draw in (learning_curves, adaptation_curves):
        drawn = picture(lambda theme, draw=draw: draw(rows, theme), "curves")  # type: ignore[misc]
        assert base64.b64decode(drawn.dark) == png(draw(rows, DARK))
        assert base64.b64decode(drawn.light) == png(draw(rows, LIGHT))
