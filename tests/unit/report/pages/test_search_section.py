"""A search on the page: trials, pictures, and pruned runs that are no failures."""

import json
from pathlib import Path

import pytest
from made_runs import MakeRun

from metaloop.problems.metric import ACCURACY
from metaloop.records.schema import SEARCH_VERSION
from metaloop.report.pages.page import make_report
from metaloop.report.pages.search_section import find_searches, pruned, search_sections


def _search(folder: Path) -> Path:
    """A search of twelve trials, every third of which was pruned."""
    space = {
        "algorithm.rule.lr": {"kind": "float", "low": 0.01, "high": 1.0, "log": True, "step": None, "choices": []},
        "algorithm/rule": {"kind": "choice", "low": 0.0, "high": 0.0, "log": False, "step": None, "choices": ["a", "b"]},
    }
    trials = []
    for number in range(12):
        state = "pruned" if number % 3 == 2 else "done"
        params = {"algorithm.rule.lr": 0.01 * (number + 1), "algorithm/rule": "ab"[number % 2]}
        values = None if state == "pruned" else {"validation": 0.5 + 0.01 * number}
        trial = {"number": number, "key": f"{number}", "directory": f"t{number}", "overrides": [], "state": state}
        trials.append({**trial, "params": params, "values": values, "intermediate": {"10": 0.4}})
    told = {
        "schema": SEARCH_VERSION, "metric": ACCURACY.as_dict(), "space": space, "wanted": 12,
        "objectives": {"validation": "maximize"},
        "sampler": "tpe", "seed": 0, "prune": "median", "trials": trials, "best": [10],
        "importances": {"validation": {"algorithm.rule.lr": 0.9, "algorithm/rule": 0.1}}, "importance_method": "PED-ANOVA",
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.json").write_text(json.dumps(told))
    return folder


def test_the_best_trials_come_first_and_those_that_did_not_end_last(tmp_path: Path) -> None:
    searches, failures = find_searches([_search(tmp_path / "sweep")])
    assert failures == []
    (section,) = search_sections(searches)
    assert [row[0].text for row in section.table.rows] == ["10", "9", "7", "6", "4", "3", "1", "0", "2", "5", "8", "11"]
    assert [row[2].mark for row in section.table.rows].count("best") == 1
    assert section.table.rows[0][2].text == "60.00"
    assert [name for name, _ in section.pictures] == ["search_importance", "search_parallel"]
    assert "12 trials (8 done, 4 pruned)" in section.note
    assert {path.name for path in pruned(searches)} == {"t2", "t5", "t8", "t11"}


def test_pruned_runs_are_no_failures(make_run: MakeRun, tmp_path: Path) -> None:
    folder = _search(tmp_path / "sweep")
    make_run("sweep/t0", samples=False)
    for name in ("t2", "t1"):
        (folder / name).mkdir()
        (folder / name / "run.json").write_text("{}")
    text = make_report([folder], tmp_path / "out").page.read_text()
    assert "1 run is not in the tables" in text
    assert f"{folder / 't1'}</dt>" in text
    assert f"{folder / 't2'}</dt>" not in text
    assert (tmp_path / "out" / "figures" / "search_parallel.png").is_file()
    assert 'id="search-table"' in text


def test_F5_scores_of_meta_test_are_shown_of_the_chosen_trial_alone(make_run: MakeRun, tmp_path: Path) -> None:
    folder = _search(tmp_path / "sweep")
    for name in ("t0", "t9", "t10"):
        make_run(f"sweep/{name}", samples=False)
    make_run("elsewhere", samples=False)
    text = make_report([folder, tmp_path / "elsewhere"], tmp_path / "out").page.read_text()
    assert "<h1>2 runs</h1>" in text
    assert "those of the chosen trial alone" in text
    assert "<h1>1 run</h1>" in make_report([folder / "t0"], tmp_path / "one").page.read_text()  # asked for by name


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 7}'])
def test_a_broken_search_does_not_hide_the_runs(make_run: MakeRun, tmp_path: Path, content: str) -> None:
    make_run("sweep/t0", samples=False)
    (tmp_path / "sweep" / "search.json").write_text(content)
    text = make_report([tmp_path / "sweep"], tmp_path / "out").page.read_text()
    assert "<h1>1 run</h1>" in text
    assert "search.json" in text
