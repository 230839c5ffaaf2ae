"""Rows of published numbers: what is compared, when intervals overlap, and what stays without a number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_runs import paper_block, run_factory

from metaloop.problems.metric import LOG_LIKELIHOOD
from metaloop.records.published import FurtherRow, Paper, Published
from metaloop.records.runs import Run, read_run
from metaloop.report.figures.published_picture import _ticks, published_svg
from metaloop.report.pages.results_page import outcome, results_markdown
from metaloop.report.paper import read_paper
from metaloop.report.summary import lines
from metaloop.report.tables.published import Experiment, PublishedRow, published_rows
from metaloop.report.tables.rows import group_rows


def _paper(mean: float, half_width: float | None = None, **more: object) -> Paper:
    return read_paper(paper_block() | {"published": {"mean": mean, "half_width": half_width}, "tolerance": 0.001, **more})


def _runs(place: Path, *means: float) -> list[Run]:
    make = run_factory(place)
    swing = 0.01 * (-1.0) ** np.arange(60)  # half-width 0.0026
    return [read_run(make(f"s{seed}", name="one", seed=seed, scores=mean + swing)) for seed, mean in enumerate(means)]


def _row(place: Path, paper: Paper, *means: float) -> PublishedRow:
    rows = published_rows([Experiment("one", "glyphs", paper)], {"one": _runs(place, *means)})
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize(
    ("mean", "half_width", "overlaps", "good", "word"),
    [
        (0.97, None, True, True, "reproduced"),
        (0.99, 0.019, True, True, "reproduced"),  # only theirs reaches ours
        (0.99, 0.005, False, False, "off by −2.0"),
        (0.95, None, False, True, "(better)"),
    ],
)
def test_intervals_that_overlap_reproduce(
    tmp_path: Path, mean: float, half_width: float | None, overlaps: bool, good: bool, word: str
) -> None:
    scores = _row(tmp_path, _paper(mean, half_width), 0.97)
    assert (scores.overlaps, scores.good) == (overlaps, good)
    assert word in outcome(scores)


def test_what_was_not_run_has_no_number() -> None:
    row = PublishedRow(Experiment("one", "glyphs", _paper(0.9)), "", _paper(0.9), None)
    assert (row.measured, row.comparison, row.overlaps, row.good) == (None, None, None, False)
    page = results_markdown([row])
    assert "## Not run yet\n\n| row | data set | published | metric |" in page
    assert "| one | glyphs | 90.00 \\[S\\] | accuracy (%) |" in page
    assert "## glyphs" not in page
    assert "Of 1 published numbers, 0 were measured" in page
    assert published_svg([row]) is None


def test_data_sets_of_published_numbers_come_first(tmp_path: Path) -> None:
    alone = published_rows([Experiment("one", "anomalies", None)], {"one": _runs(tmp_path / "alone", 0.9)})
    page = results_markdown([*alone, _row(tmp_path / "compared", _paper(0.9), 0.9)])
    places = [page.index(part) for part in ("# Results", "## glyphs", "## anomalies", "## Sources")]
    assert places == sorted(places)


def test_a_number_with_two_rows_of_records_counts_once(tmp_path: Path) -> None:
    good, off = _row(tmp_path / "good", _paper(0.9), 0.9), _row(tmp_path / "off", _paper(0.9), 0.8)
    assert "Of 1 published numbers, 1 were measured; 1 of" in results_markdown([good, good])
    assert "Of 1 published numbers, 1 were measured; 0 of" in results_markdown([good, off])


def test_a_further_step_is_read_from_the_curve_of_the_same_test(tmp_path: Path) -> None:
    also = {"one_step": FurtherRow("after one step", Published(0.5), step=1)}
    paper = _paper(0.97)
    experiment = Experiment("one", "glyphs", Paper(**{**vars(paper), "also": also}))
    runs = _runs(tmp_path, 0.97, 0.96)
    own, further = published_rows([experiment], {"one": runs})
    assert (own.label, further.label) == ("one", "one / one_step")
    points = [run.test.curve[1] for run in runs]
    assert further.measured == pytest.approx(((points[0].mean + points[1].mean) / 2, points[0].half_width))
    assert further.comparison is not None
    assert further.comparison.published == 0.5


def test_a_further_setting_is_the_evaluation_with_its_overrides(tmp_path: Path) -> None:
    make = run_factory(tmp_path)
    trained = read_run(make("s0", name="one"))
    others = {"a1": ["episode=20w1s"], "b2": ["model.norm=support"]}
    runs = [read_run(make(f"s0/evaluations/{name}", name="one", overrides=words)) for name, words in others.items()]
    also = {"20w": FurtherRow("20 ways", None, ("episode=20w1s",)), "50w": FurtherRow("50 ways", None, ("episode=50w1s",))}
    experiment = Experiment("one", "glyphs", Paper(**{**vars(_paper(0.97)), "also": also}))
    rows = published_rows([experiment], {"one": [trained, *runs]})
    assert [row.label for row in rows] == ["one", "one / 20w", "one / 50w"]
    assert rows[1].row is not None
    assert rows[1].row.first.record.overrides == ("episode=20w1s",)
    assert rows[1].trained is not None
    assert (rows[1].comparison, outcome(rows[1])) == (None, "no published number")
    assert rows[2].row is None


def test_a_log_likelihood_is_compared_beside_a_squared_error(tmp_path: Path) -> None:
    make, paper = run_factory(tmp_path), _paper(0.3, 0.02, metric="log_likelihood")
    others = {"log_likelihood": {"metric": LOG_LIKELIHOOD.as_dict(), "mean": 0.25, "half_width": 0.04}}
    run = read_run(make("s0", name="one", problem="regression", mean=1.9, test={"others": others}))
    (row,) = published_rows([Experiment("one", "gp", paper)], {"one": [run]})
    assert (row.metric, row.measured) == (LOG_LIKELIHOOD, (0.25, 0.04))
    assert (row.overlaps, outcome(row)) == (True, "reproduced")
    page = results_markdown([row])
    assert "Log-likelihood of a query (nats)" in page
    assert r"| 0.3000 ± 0.0200 \[S\] | 0.2500 ± 0.0400 |" in page
    recorded = replace(run, record=replace(run.record, paper=paper))
    (own,) = group_rows([recorded])
    assert own.measured == (0.25, 0.04)
    assert own.comparison is not None
    assert own.comparison.measured == 0.25
    assert "published  0.3000 ± 0.0200 nats log-likelihood of a query" in "\n".join(lines(recorded.record, tmp_path))


@pytest.mark.parametrize(("low", "high", "least"), [(0.28, 0.75, 4), (0.9, 1.45, 3), (0.02, 30.0, 4), (1.1, 7.5, 4)])
def test_an_axis_has_enough_ticks_that_can_be_read(low: float, high: float, least: int) -> None:
    ticks = _ticks(low, high)
    assert least <= len(ticks) <= 10
    assert ticks == sorted(ticks)
    assert all(low <= tick <= high and len(f"{tick:g}") <= 4 for tick in ticks)


def test_the_picture_has_a_dot_a_row_and_is_the_same_every_time(tmp_path: Path) -> None:
    rows = [_row(tmp_path / str(mean), _paper(mean, 0.01, mark=mark), 0.9) for mean, mark in ((0.91, "S"), (0.99, "M"))]
    svg = published_svg(rows)
    assert svg is not None
    assert svg.count("<circle") == 2
    assert svg.count('fill="#1b7837"') == 1  # read somewhere, and inside
    assert svg.count('fill="white" stroke="#d6604d"') == 1  # from memory, and off
    assert published_svg(rows) == svg


def test_the_page_says_why_a_number_is_off(tmp_path: Path) -> None:
    why = {"cause": "fewer steps", "tried": ["twice as many steps: 96.10"]}
    runs = _runs(tmp_path, 0.95, 0.95)

    def page(mean: float, **more: object) -> str:
        return results_markdown(published_rows([Experiment("one", "glyphs", _paper(mean, **more))], {"one": runs}))

    off = "Likeliest cause of what is off: fewer steps.\n\nTried:\n\n- twice as many steps: 96.10\n"
    assert off in page(0.999, **why)
    assert "Likeliest cause of what is off: not looked for yet.\n" in page(0.999)
    assert "Likeliest cause" not in page(0.95, **why)


def test_the_picture_has_scores_of_either_sign_and_says_where_ours_is_better(tmp_path: Path) -> None:
    make, rows = run_factory(tmp_path), []
    for number, (theirs, ours) in enumerate([(-1.4, -1.39), (0.3, -0.2)]):
        others = {"log_likelihood": {"metric": LOG_LIKELIHOOD.as_dict(), "mean": ours, "half_width": 0.04}}
        run = read_run(make(f"s{number}", name="one", problem="regression", mean=1.9, test={"others": others}))
        rows += published_rows([Experiment("one", "gp", _paper(theirs, metric="log_likelihood"))], {"one": [run]})
    svg = published_svg(rows)
    assert svg is not None
    assert "above the line, ours is better" in svg
    assert svg.count("<circle") == 2
    assert ">−1</text>" in svg
    places = [[float(part.split('"')[1]) for part in line.split(" c")[1:]] for line in svg.splitlines() if "<circle" in line]
    assert all(0 < x < 470 and 0 < y < 430 for x, y in places)
    assert places[0][0] < places[1][0]


def test_a_number_within_the_declared_tolerance_is_neither_green_nor_red(tmp_path: Path) -> None:
    row = _row(tmp_path, replace(_paper(0.999), tolerance=0.1), 0.9)
    svg = published_svg([row])
    assert svg is not None
    assert svg.count("#e08214") == 4
