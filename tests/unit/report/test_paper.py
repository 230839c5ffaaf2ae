"""Published beside measured."""

from typing import Any

import pytest
from made_runs import MakeRun

from metaloop.errors import UserError
from metaloop.records.runs import read_run
from metaloop.report.paper import check_paper, compare, results_markdown


@pytest.mark.parametrize(
    ("metric", "measured", "verdict"),
    [
        ("accuracy", 0.980, "within tolerance"),
        ("accuracy", 0.977, "within tolerance"),
        ("accuracy", 0.9769, "worse"),
        ("accuracy", 0.9971, "better"),
        ("mse", 0.9769, "better"),
        ("mse", 0.9971, "worse"),
    ],
)
def test_difference_and_verdict(paper: dict[str, Any], metric: str, measured: float, verdict: str) -> None:
    found = compare({"paper": paper, "test": {"metric": metric, "mean": measured}})
    assert found is not None
    assert found.difference == pytest.approx(measured - 0.987)
    assert found.verdict == verdict
    assert found.within == (verdict == "within tolerance")
    assert found.published_text == ("98.70 ± 0.40 [S]" if metric == "accuracy" else "0.9870 ± 0.0040 [S]")


def test_no_paper_no_comparison() -> None:
    assert compare({"paper": None, "test": {"metric": "mse", "mean": 1.0}}) is None
    assert compare({"test": {"metric": "mse", "mean": 1.0}}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"citation": None}, r"paper\.citation is missing"),
        ({"tolerance": None}, r"paper\.tolerance is missing"),
        ({"mark": "X"}, r"paper\.mark='X': one of V, S, M"),
        ({"published": 98.7}, r"paper\.published=98\.7: needs a mean"),
        (
            {"published": {"mean": 98.7}},
            r"paper\.published\.mean=98\.7: give it as a fraction in \[0, 1\], not percent",
        ),
        ({"published": {"mean": 0.987, "half_width": 0.4}, "tolerance": 1.5}, r"paper\.tolerance=1\.5"),
        ({"tolerance": "some"}, r"paper\.tolerance='some'"),
    ],
)
def test_a_wrong_block_names_its_key(paper: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_paper(paper | changes, "accuracy")


def test_errors_may_exceed_one_and_have_no_interval(paper: dict[str, Any]) -> None:
    check_paper(paper | {"published": {"mean": 4.19, "half_width": None}, "tolerance": 2.0}, "mse")
    with pytest.raises(UserError, match="at least 0"):
        check_paper(paper | {"published": {"mean": -1.0}}, "mse")


def test_results_page(make_run: MakeRun, paper: dict[str, Any]) -> None:
    git = {"commit": "fedcba9876543210", "dirty": True}
    runs = [
        make_run("s0", name="finn|maml", paper=paper),
        make_run("s1", name="finn|maml", seed=1, paper=paper, git=git),
    ]
    sinus = paper | {"published": {"mean": 0.35, "half_width": None}, "mark": "M", "deviations": []}
    runs += [make_run("sin", kind="regression", mean=0.3, paper=sinus), make_run("other", name="not a reproduction")]
    text = results_markdown(map(read_run, runs))
    line = next(line for line in text.splitlines() if line.startswith(r"| finn\|maml"))
    cells = [cell.strip() for cell in line.replace(r"\|", "!").split("|")]
    assert cells[5] == r"98.70 ± 0.40 \[S\]"
    assert cells[7].startswith("−")
    assert cells[8] == f"off by {cells[7]} (worse)"
    assert cells[10:12] == ["2", "60"]
    assert cells[14] == "0123456789, fedcba9876 (uncommitted changes)"
    assert r"0.3500 \[M\]" in text
    assert "Finn et al. 2017; Table 1, 5-way 1-shot." in text
    assert "- Adam's step size is 0.001, the paper does not say" in text
    assert "- none known" in text
    assert "not a reproduction" not in text


def test_a_published_value_is_compared_after_as_many_inner_steps(make_run: MakeRun, paper: dict[str, Any]) -> None:
    """``paper.step`` picks the point of our adaptation curve, and one beyond its end is refused."""
    early = read_run(make_run("early", paper=paper | {"step": 0}))
    found = compare(early.record)
    assert found is not None
    assert found.measured == early.record["test"]["curve"][0]["mean"] != early.record["test"]["mean"]
    assert f"| 0 | {early.record['training']['steps']} |" in results_markdown([early])
    with pytest.raises(UserError, match=r"paper\.step=99"):
        compare(read_run(make_run("late", paper=paper | {"step": 99})).record)
    curve = [{"step": step, "mean": 0.1 * (step + 1), "half_width": None} for step in (0, 5)]
    sparse = read_run(make_run("sparse", paper=paper | {"step": 5}, test={"curve": curve})).record
    assert compare(sparse).measured == curve[1]["mean"]  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"paper\.step=1: the run's adaptation curve has the steps 0, 5"):
        compare(read_run(make_run("between", paper=paper | {"step": 1}, test={"curve": curve})).record)


def test_results_page_without_reproductions_and_with_a_wrong_one(make_run: MakeRun, paper: dict[str, Any]) -> None:
    assert "No run with a `paper` block" in results_markdown([read_run(make_run("a"))])
    wrong = make_run("b", paper=paper | {"mark": "?"})
    with pytest.raises(UserError, match=rf"{wrong}: paper\.mark"):
        results_markdown([read_run(wrong)])
