"""Published beside measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from made_runs import MakeRun

from metaloop.errors import UserError
from metaloop.problems.metric import ACCURACY, MEAN_SQUARED_ERROR, Metric
from metaloop.records.published import Paper
from metaloop.records.runs import Run, read_run
from metaloop.report.pages.results_page import results_markdown
from metaloop.report.paper import PaperComparison, compare, metric_of, read_paper
from metaloop.report.tables.published import Experiment, published_rows


def _page(papers: Mapping[str, Paper | None], **runs: Sequence[Run]) -> str:
    return results_markdown(published_rows([Experiment(name, "glyphs", paper) for name, paper in papers.items()], runs))


RETURN = Metric("return", "average return", unit="points of Pendulum", digits=1)


@pytest.mark.parametrize(
    ("metric", "measured", "verdict"),
    [
        (ACCURACY, 0.980, "within tolerance"),
        (ACCURACY, 0.977, "within tolerance"),
        (ACCURACY, 0.9769, "worse"),
        (ACCURACY, 0.9971, "better"),
        (MEAN_SQUARED_ERROR, 0.9769, "better"),
        (MEAN_SQUARED_ERROR, 0.9971, "worse"),
    ],
)
def test_difference_and_verdict(paper: dict[str, Any], metric: Metric, measured: float, verdict: str) -> None:
    result = PaperComparison(read_paper(paper), metric, measured)
    assert result.difference == pytest.approx(measured - 0.987)
    assert result.verdict == verdict
    assert result.within == (verdict == "within tolerance")
    assert result.published_text == ("98.70 ± 0.40 [S]" if metric == ACCURACY else "0.9870 ± 0.0040 [S]")


def test_no_paper_no_comparison(make_run: MakeRun) -> None:
    assert compare(read_run(make_run("a")).record) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"citation": None}, r"paper\.citation is None, expected str"),
        ({"cite": "x"}, r"paper\.cite is an unknown key; known are citation, table, published"),
        ({"mark": "X"}, r"paper\.mark='X': one of V, S, M"),
        ({"published": 98.7}, r"paper\.published is 98\.7, expected a mapping"),
        ({"published": {"mean": 98.7}}, r"published\.mean=98\.7: at least 0 and at most 1; as it is stored, not in %"),
        ({"published": {"mean": 0.987, "half_width": 0.4}, "tolerance": 1.5}, r"paper\.tolerance=1\.5"),
        ({"tolerance": "some"}, r"paper\.tolerance is 'some', expected float"),
        ({"metric": "mse"}, r"paper\.metric='mse': the run's metric is 'accuracy'"),
    ],
)
def test_a_wrong_block_names_its_key(paper: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_paper(paper | changes, ACCURACY)


def test_bounds_come_from_the_metric(paper: dict[str, Any]) -> None:
    read_paper(paper | {"published": {"mean": 4.19, "half_width": None}, "tolerance": 2.0}, MEAN_SQUARED_ERROR)
    with pytest.raises(UserError, match="at least 0"):
        read_paper(paper | {"published": {"mean": -1.0}}, MEAN_SQUARED_ERROR)
    ours = read_paper(paper | {"published": {"mean": -312.5, "half_width": 20.0}, "tolerance": 50}, RETURN)
    assert PaperComparison(ours, RETURN, -420.0).outcome == "off by −107.5 (worse)"
    assert PaperComparison(ours, RETURN, -300.0).published_text == "−312.5 ± 20.0 [S]"


def test_a_block_may_bring_a_metric_of_its_own(make_run: MakeRun, paper: dict[str, Any]) -> None:
    block = paper | {"published": {"mean": -312.5}, "tolerance": 50, "metric": RETURN.as_dict()}
    ours = read_paper(block)
    assert metric_of(ours) == RETURN
    run = read_run(make_run("a", metric=RETURN, mean=-300.0, paper=block))
    text = _page({"a": ours, "other": ours}, a=[run])
    assert "\nAverage return (points of Pendulum)\n" in text
    assert "| −300.0 ± " in text
    assert "| reproduced within the tolerance of 50.0 |" in text
    assert r"| −312.5 \[S\] |" in text
    with pytest.raises(UserError, match=r"paper\.metric='speed': give one of accuracy, .* or a mapping"):
        metric_of(read_paper(paper | {"metric": "speed"}, None))


def test_results_page(make_run: MakeRun, paper: dict[str, Any]) -> None:
    git = {"commit": "fedcba9876543210", "dirty": True}
    runs = [
        make_run("s0", name="finn|maml", paper=paper),
        make_run("s1", name="finn|maml", seed=1, paper=paper, git=git),
    ]
    sinus = read_paper(paper | {"published": {"mean": 0.35, "half_width": None}, "mark": "M", "deviations": []})
    sine = [read_run(make_run("sin", problem="regression", mean=0.3))]
    papers = {"finn|maml": read_paper(paper), "sin": sinus, "unpublished": None, "unknown": None}
    text = _page(papers, **{"finn|maml": list(map(read_run, runs)), "sin": sine, "unpublished": [read_run(make_run("own"))]})
    line = next(line for line in text.splitlines() if line.startswith(r"| finn\|maml"))
    cells = [cell.strip() for cell in line.replace(r"\|", "!").split("|")]
    assert cells[3] == r"98.70 ± 0.40 \[S\]"
    assert cells[5].startswith("−")
    assert cells[6] == f"off by {cells[5]} (worse)"
    assert cells[8:10] == ["2", "60"]
    assert cells[14] == "1 min 35 s"
    assert cells[16:18] == ["Some CPU", "0123456789, fedcba9876 (uncommitted changes)"]
    assert r"0.3500 \[M\]" in text
    assert "Finn et al. 2017; Table 1, 5-way 1-shot." in text
    assert "- Adam's step size is 0.001, the paper does not say" in text
    assert "- none known" in text
    assert "| unpublished | 5-way 1-shot | – |" in text
    assert "unknown" not in text  # neither a number nor a record
    assert "Of 2 published numbers, 2 were measured; 1 of these" in text


def test_a_published_value_is_compared_after_as_many_inner_steps(make_run: MakeRun, paper: dict[str, Any]) -> None:
    """``paper.step`` picks the point of our adaptation curve, and one beyond its end is refused."""
    early = read_run(make_run("early", paper=paper | {"step": 0}))
    found = compare(early.record)
    assert found is not None
    assert found.measured == early.test.curve[0].mean != early.test.mean
    assert "| 0 | 1000 |" in _page({"early": early.paper}, early=[early])
    with pytest.raises(UserError, match=r"paper\.step=99"):
        compare(read_run(make_run("late", paper=paper | {"step": 99})).record)
    curve = [{"step": step, "mean": 0.1 * (step + 1), "half_width": None} for step in (0, 5)]
    sparse = read_run(make_run("sparse", paper=paper | {"step": 5}, test={"curve": curve})).record
    assert compare(sparse).measured == curve[1]["mean"]  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"paper\.step=1: the run's adaptation curve has the steps 0, 5"):
        compare(read_run(make_run("between", paper=paper | {"step": 1}, test={"curve": curve})).record)


def test_results_page_without_reproductions_and_with_a_wrong_one(make_run: MakeRun, paper: dict[str, Any]) -> None:
    assert "No experiment has a published number or a record" in _page({"a": None})
    late = read_paper(paper | {"step": 99})
    with pytest.raises(UserError, match=r"b: paper\.step=99, but the run's adaptation curve has the steps 0, 1"):
        _page({"b": late}, b=[read_run(make_run("b"))])
