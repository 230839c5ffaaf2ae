"""The figures of a search, read back from matplotlib's artists."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY, MEAN_SQUARED_ERROR, Metric
from metaloop.records.schema import SEARCH_VERSION
from metaloop.report.figures.search_plots import front_figure, importance_figure, parallel_figure, read_search
from metaloop.report.figures.theme import DARK, LIGHT, Theme, png

RANGE = {"kind": "float", "low": 0.01, "high": 1.0, "log": True, "step": None, "choices": []}


def trial(number: int, lr: float, rule: str, state: str = "done", **values: float) -> dict[str, Any]:
    params = {"algorithm.rule.lr": lr, "outer.lr": lr, "algorithm/rule": rule}
    return {"number": number, "params": params, "state": state, "values": values or None, "intermediate": {}}


@pytest.fixture
def search() -> dict[str, Any]:
    """Three finished trials of accuracy and speed, a pruned and a failed one."""
    return {
        "schema": SEARCH_VERSION,
        "metric": ACCURACY,
        "space": {
            "algorithm.rule.lr": RANGE,
            "outer.lr": {**RANGE, "log": False},
            "algorithm/rule": {"kind": "choice", "low": 0, "high": 0, "log": False, "step": None, "choices": ["sgd", "$a_b$"]},
        },
        "objectives": {"validation": "maximize", "tasks_per_second": "maximize"},
        "trials": [
            trial(0, 0.01, "sgd", validation=0.5, tasks_per_second=90.0),
            trial(1, 0.1, "sgd", validation=0.9, tasks_per_second=50.0),
            trial(2, 1.0, "$a_b$", validation=0.4, tasks_per_second=40.0),
            trial(3, 0.5, "sgd", "pruned"),
            trial(4, 0.5, "sgd", "failed"),
        ],
        "best": [0, 1],
        "importances": {
            "validation": {"algorithm.rule.lr": 0.7, "outer.lr": 0.1, "algorithm/rule": 0.2},
            "tasks_per_second": None,
        },
    }


def texts(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.axes[0].texts]


def legend_of(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_importances_are_sorted_bars_with_names_that_differ(search: dict[str, Any]) -> None:
    figure = importance_figure(search, LIGHT)
    assert figure is not None
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["outer.lr", "rule", "rule.lr"]
    assert texts(figure) == ["10 %", "20 %", "70 %"]
    assert ax.get_xlabel() == "importance for meta-validation accuracy"
    search["importances"]["validation"] = None
    assert importance_figure(search, LIGHT) is None


def test_parallel_lines_pass_their_values(search: dict[str, Any]) -> None:
    figure = parallel_figure(search, LIGHT)
    assert figure is not None
    (ax,) = figure.axes
    lines = [list(line.get_ydata()) for line in ax.lines]
    assert [0.5, pytest.approx(0.0909, abs=1e-3), 0.25, 1.0, 0.2] in lines  # trial 1: halfway between 0.01 and 1 on a log axis
    pruned = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [len(line.get_ydata()) for line in pruned] == [3]  # which has no objective
    assert not any(line[:1] == [pytest.approx(0.85, abs=0.01)] and len(line) == 5 for line in lines)  # the failed one
    best = [line for line in ax.lines if line.get_linewidth() > 2]
    assert {line.get_color() for line in best} == {LIGHT.palette[1]}
    assert len(best) == 2
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "rule.lr", "outer.lr", "rule", "meta-validation\naccuracy (%)", "tasks/s",
    ]  # fmt: skip
    assert {"0.01", "0.1", "1", "sgd", "$a_b$", "50", "90"} <= set(texts(figure))
    assert legend_of(figure) == ["Pareto front", "good", "bad", "pruned"]


def test_errors_have_their_best_below_and_a_log_axis(search: dict[str, Any]) -> None:
    search |= {"metric": MEAN_SQUARED_ERROR, "objectives": {"validation": "minimize"}, "best": [2]}
    for number, value in enumerate((8.0, 2.0, 0.5)):
        search["trials"][number]["values"] = {"validation": value}
    figure = parallel_figure(search, LIGHT)
    assert figure is not None
    (best,) = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    assert best.get_ydata()[-1] == 0.0
    assert any(len(line.get_ydata()) == 4 and line.get_ydata()[-1] == pytest.approx(0.5) for line in figure.axes[0].lines)
    assert legend_of(figure) == ["best", "good", "bad", "pruned"]


def test_the_front_is_a_line_and_the_beaten_are_crosses(search: dict[str, Any]) -> None:
    figure = front_figure(search, LIGHT)
    assert figure is not None
    front, beaten = figure.axes[0].lines
    assert (list(front.get_xdata()), list(front.get_ydata())) == ([50.0, 90.0], [90.0, 50.0])
    assert (list(beaten.get_xdata()), list(beaten.get_ydata())) == ([40.0], [40.0])
    assert figure.axes[0].get_xlabel() == "tasks/s"
    search["objectives"] = {"validation": "maximize"}
    assert front_figure(search, LIGHT) is None


def test_nothing_is_drawn_of_nothing(search: dict[str, Any]) -> None:
    search |= {"trials": search["trials"][3:], "best": []}
    assert parallel_figure(search, LIGHT) is None
    assert front_figure(search, LIGHT) is None


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_all_values_equal_and_both_themes_can_be_drawn(search: dict[str, Any], theme: Theme) -> None:
    same = copy.deepcopy(search)
    for one in same["trials"][:3]:
        one["values"] = {"validation": 0.5, "tasks_per_second": 1.0}
    for told in (search, same):
        for draw in (importance_figure, parallel_figure, front_figure):
            figure = draw(told, theme)
            assert figure is not None
            assert png(figure).startswith(b"\x89PNG")


def test_reading_what_was_written(search: dict[str, Any], tmp_path: Path) -> None:
    assert read_search(tmp_path) is None
    (tmp_path / "search.json").write_text(json.dumps(search, default=Metric.as_dict))
    assert read_search(tmp_path) == search


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("{", "no readable search"),
        ("[]", "schema None"),
        ('{"schema": 9}', "schema 9"),
        (f'{{"schema": {SEARCH_VERSION}}}', "metric is None"),
    ],
)
def test_a_broken_file_is_named(broken: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(broken)
    with pytest.raises(UserError, match=r"search\.json") as refused:
        read_search(tmp_path)
    assert reason in str(refused.value)
