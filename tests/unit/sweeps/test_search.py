"""The search block of a sweep's file, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from metaloop.errors import UserError
from metaloop.sweeps.compose import with_overrides
from metaloop.sweeps.plan import Plan, read_plan
from metaloop.sweeps.search.search import Parameter

LR = {"algorithm.rule.lr": {"low": 0.01, "high": 1.0, "log": True}}


def plan(tmp_path: Path, search: object, **beside: object) -> Plan:
    (tmp_path / "sweep").mkdir(exist_ok=True)
    (tmp_path / "sweep" / "mine.yaml").write_text(yaml.safe_dump({**beside, "search": search}, sort_keys=False))
    return read_plan("mine", [str(tmp_path)])


def test_a_space_has_ranges_whole_numbers_and_choices(tmp_path: Path) -> None:
    space = {**LR, "b": {"low": 1, "high": 9, "step": 2}, "g/h": ["x", None], "c": {"low": "1e-3", "high": 1}}
    search = plan(tmp_path, {"space": space}).search
    assert search is not None
    assert search.space == {
        "algorithm.rule.lr": Parameter("float", 0.01, 1.0, log=True),
        "b": Parameter("int", 1, 9, step=2),
        "g/h": Parameter("choice", choices=("x", "null")),
        "c": Parameter("float", 0.001, 1),
    }
    assert (search.trials, search.objectives, search.sampler, search.prune) == (30, {"validation": None}, "tpe", None)


def test_numbers_are_typed_short_and_stay_within_their_range() -> None:
    assert Parameter("float", 0.01, 1.0).to_text(0.123456) == "0.1235"
    assert Parameter("float", 1e-6, 1.0).to_text(1.23456e-5) == "1.235e-05"
    assert Parameter("float", 0.012344, 1.0).to_text(0.012344) == "0.012344"  # not 0.01234
    assert Parameter("int", 1, 9).to_text(3) == "3"


def test_objectives_have_their_directions(tmp_path: Path) -> None:
    told = {"space": LR, "objectives": {"validation": None, "tasks_per_second": None, "seconds": "maximize"}}
    search = plan(tmp_path, told).search
    assert search is not None
    assert search.objectives == {"validation": None, "tasks_per_second": "maximize", "seconds": "maximize"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"space": {}}, "search.space must have entries"),
        ({"space": {"a": {"low": 2, "high": 1}}}, "low=2 must be below high=1"),
        ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "must be above 0"),
        ({"space": {"a": {"low": 0, "high": 1, "log": "yes"}}}, "true or false"),
        ({"space": {"a": {"low": 0, "hi": 1}}}, "or a range"),
        ({"space": {"a": {"low": 0, "high": 1, "lag": True}}}, "did you mean log"),
        ({"space": {"a": {"low": "x", "high": 1}}}, "search.space.a.low must be a number"),
        ({"space": {"a": {"low": True, "high": 2}}}, "search.space.a.low must be a number"),
        ({"space": {"a": {"low": 0, "high": 1, "step": 3}}}, "at most high - low"),
        ({"space": {"a": [1]}}, "at least two values"),
        ({"space": {"a": 1}}, "a list of values, or a range"),
        ({"space": {"seed": [0, 1]}}, "luck"),
        ({"trials": 0}, "search.trials=0"),
        ({"trials": True}, "search.trials=True"),
        ({"seed": -1}, "search.seed=-1"),
        ({"sampler": "grid"}, "a grid is a sweep with axes"),
        ({"sampler": "rndom"}, "did you mean random"),
        ({"sampler": "nsga2"}, "needs several objectives"),
        ({"prune": "mdian"}, "did you mean median"),
        ({"prune": "median", "objectives": ["validation", "seconds"]}, "needs validation as the only objective"),
        ({"objectives": ["test"]}, "must be one of validation"),
        ({"objectives": []}, "search.objectives is empty"),
        ({"objectives": {"validation": "minimize"}}, "the metric has a direction"),
        ({"objectives": {"seconds": "less"}}, "maximize, minimize or null"),
        ({"trails": 3}, "did you mean trials"),
    ],
)
def test_a_wrong_search_is_refused_by_name(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml") as refused:
        plan(tmp_path, {"space": LR, **change})
    assert reason in str(refused.value)


@pytest.mark.parametrize("part", [{"axes": {"a": [1]}}, {"seeds": 2}, {"points": [{}]}, {"when": []}])
def test_a_search_has_no_axes(part: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a sweep cannot have both search and"):
        plan(tmp_path, {"space": LR}, **part)


def test_the_command_line_fixes_chooses_and_sets(tmp_path: Path) -> None:
    base = plan(tmp_path, {"space": {**LR, "algorithm.steps": {"low": 1, "high": 5}}}, overrides={"algorithm": "maml"})
    given = with_overrides(base, ["algorithm.steps=2", "algorithm.rule.lr=0.1,0.2", "seed=3", "search.trials=60"], [])
    assert given.overrides == {"algorithm": "maml", "algorithm.steps": "2", "seed": "3"}
    assert given.search is not None
    assert given.search.space == {"algorithm.rule.lr": Parameter("choice", choices=("0.1", "0.2"))}
    assert given.search.trials == 60
    assert with_overrides(base, ["search.prune=median", "search.prune=null"], []).search == base.search


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("algorithm.rule.lr=0.1", "the only key of search.space"),
        ("search.trails=3", "did you mean trials"),
        ("search.trials=few", "a whole number"),
        ("search.trials=3,4", "one value"),
        ("seed=0,1", "luck"),
    ],
)
def test_a_wrong_word_is_refused(word: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        with_overrides(plan(tmp_path, {"space": LR}), [word], [])
