"""Plans: which runs there are, and what a wrong file is told."""

import json
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.types import QuotedString

from metaloop.config.folder import conf_dir
from metaloop.config.overrides import parse, quoted
from metaloop.errors import UserError
from metaloop.sweeps.override_text import override_text
from metaloop.sweeps.plan import Plan, read_plan


def plan(tmp_path: Path, told: object) -> Plan:
    (tmp_path / "sweep").mkdir(exist_ok=True)
    (tmp_path / "sweep" / "mine.yaml").write_text(told if isinstance(told, str) else yaml.safe_dump(told, sort_keys=False))
    return read_plan("mine", [str(tmp_path)])


def test_axes_points_and_seeds_multiply_and_seeds_come_last(tmp_path: Path) -> None:
    told = {"overrides": {"a": 0}, "axes": {"b": [1, 2]}, "points": [{}, {"c": None}], "seeds": 2}
    runs = plan(tmp_path, told).runs()
    assert len(runs) == 8
    assert [run["seed"] for run in runs] == ["0"] * 4 + ["1"] * 4
    assert runs[0] == {"a": "0", "b": "1", "seed": "0"}
    assert {"a": "0", "b": "2", "c": "null", "seed": "1"} in runs


def test_a_point_may_be_a_group_whose_order_is_kept(tmp_path: Path) -> None:
    groups = [{"axes": {"a": [1, 2]}}, {"axes": {"seed": [1, 2], "a": [1, 2]}, "b": 0}, {"a": 3}]
    runs = plan(tmp_path, {"points": groups}).runs()
    assert runs[:2] == [{"a": "1"}, {"a": "2"}]
    assert runs[2:4] == [{"b": "0", "seed": "1", "a": "1"}, {"b": "0", "seed": "1", "a": "2"}]
    assert runs[-1] == {"a": "3"}
    assert len(runs) == 7
    with pytest.raises(UserError, match="axes of a point must be key"):
        plan(tmp_path, {"points": [{"axes": [1]}]})


def test_conditions_add_axes_to_some_points_alone(tmp_path: Path) -> None:
    when = [{"if": {"algorithm": ["maml"]}, "axes": {"steps": [1, 5]}}, {"if": {"steps": 5}, "axes": {"lr": [0.1, 0.2]}}]
    runs = plan(tmp_path, {"axes": {"algorithm": ["maml", "reptile"]}, "when": when}).runs()
    assert runs == [
        {"algorithm": "maml", "steps": "1"},
        {"algorithm": "maml", "steps": "5", "lr": "0.1"},
        {"algorithm": "maml", "steps": "5", "lr": "0.2"},
        {"algorithm": "reptile"},
    ]


def test_a_condition_may_look_at_what_all_runs_share(tmp_path: Path) -> None:
    told = {"overrides": {"model": "mlp"}, "axes": {"a": [1]}, "when": [{"if": {"model": "mlp"}, "axes": {"b": [1, 2]}}]}
    assert len(plan(tmp_path, told).runs()) == 2


def test_the_same_run_twice_is_one(tmp_path: Path) -> None:
    when = [{"if": {"order": 1}, "axes": {"steps": [1, 5, 10]}}]
    assert len(plan(tmp_path, {"axes": {"order": [1, 2], "steps": [1, 5]}, "when": when}).runs()) == 5


def test_the_command_line_replaces(tmp_path: Path) -> None:
    base = plan(tmp_path, {"axes": {"a": [1, 2], "b": [1, 2]}, "points": [{"c": 1}, {"c": 2}], "seeds": [3]})
    assert len(base.with_fixed("a", "9").runs()) == 4
    assert {run["c"] for run in base.with_fixed("c", "9").runs()} == {"9"}
    assert {run["a"] for run in base.with_axis("a", ("7", "8", "9")).runs()} == {"7", "8", "9"}
    assert {run["seed"] for run in base.with_axis("seed", ("0", "1")).runs()} == {"0", "1"}
    assert {run["seed"] for run in base.with_fixed("seed", "5").runs()} == {"5"}
    assert base.varied() == ("a", "b", "c")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"axis": {"a": [1]}}, "did you mean axes"),
        ({"axes": {"a": []}}, "axis a has no value"),
        ({"axes": {"seed": [1]}}, "seeds are not an axis"),
        ({"axes": [1]}, "axes must be key"),
        ({"seeds": 0}, "seeds must be a number of seeds"),
        ({"seeds": ["a"]}, "seeds must be a number of seeds"),
        ({"points": {"a": 1}}, "points must be a list"),
        ({"points": [1]}, "a point must be key: value"),
        ({"when": [{"axes": {}}]}, "each entry of `when`"),
        ("a: [", "mine.yaml"),
        ("- 1", "not a mapping"),
    ],
)
def test_a_wrong_file_is_refused_by_name(told: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml") as refused:
        plan(tmp_path, told)
    assert reason in str(refused.value)


def test_an_unknown_sweep_is_told_what_there_is() -> None:
    with pytest.raises(UserError, match="did you mean five_choices"):
        read_plan("five_choice")


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ([1, [2]], "[1,[2]]"),
        ({"a": 1}, "{a:1}"),
        ("a b", "'a b'"),
        ("it's", "'it\\'s'"),
        (r"layer\.5\..*", r"'layer\.5\..*'"),
        ("[\\", r"'[\\'"),
        ("null", "'null'"),
        ("2024", "'2024'"),
        ("1e3", "'1e3'"),
        ("true", "'true'"),
        ("文件夹", "'文件夹'"),
        ("5w1s", "5w1s"),
        ("runs/a_b-c.csv", "runs/a_b-c.csv"),
    ],
)
def test_values_are_typed_as_hydra_reads_them(value: object, typed: str) -> None:
    assert override_text(value) == typed


def read_back(line: str) -> object:
    """The value that Hydra reads, without quotes."""
    value = parse(line).value()
    return value.text if isinstance(value, QuotedString) else value


@pytest.mark.parametrize(
    "value",
    ["pics=v2", "pics,v2", "my pics (1)", "pics[1]", "文件夹", "null", "2024", "007", "1e3", "a'b", 'q"q', "x${seed}"],
)
def test_B13_text_of_a_sweep_file_stays_text(value: str, tmp_path: Path) -> None:
    (run,) = plan(tmp_path, json.dumps({"axes": {"dataset.path": [value]}})).runs()
    assert read_back(f"dataset.path={run['dataset.path']}") == value


def test_B13_numbers_of_a_sweep_file_are_those_of_other_configs(tmp_path: Path) -> None:
    runs = plan(tmp_path, "axes:\n  outer.optimizer.lr: [1e-3, 0.01]\n").runs()
    assert [run["outer.optimizer.lr"] for run in runs] == ["0.001", "0.01"]


@pytest.mark.parametrize("line", ["dataset.path=文件夹", "dataset.path=pics=v2", "+name=a=b"])
def test_B13_what_means_one_thing_only_is_quoted_on_the_command_line(line: str) -> None:
    assert read_back(quoted(line)) == line.partition("=")[2]


@pytest.mark.parametrize("line", ["a=1,2", "a=[b=c]", "a==1", "a='b=c'", "a=choice(b=c)", "--key=a=b", "seed=3", "a=${b}"])
def test_B13_what_has_a_meaning_of_its_own_stays(line: str) -> None:
    assert quoted(line) == line


@pytest.mark.parametrize("path", sorted((conf_dir() / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_sweeps_have_runs(path: Path) -> None:
    plan = read_plan(path.stem)
    assert plan.search or len(plan.runs()) * max(1, len(plan.evaluations)) > 4


def test_all_of_a_condition_must_hold(tmp_path: Path) -> None:
    when = [{"if": {"a": 1, "b": [1, 2]}, "axes": {"c": [1, 2]}}]
    runs = plan(tmp_path, {"axes": {"a": [1, 2], "b": [2, 3]}, "when": when}).runs()
    assert sum("c" in run for run in runs) == 2
    assert len(runs) == 5


@pytest.mark.parametrize("inspect", ["1", "true", "-2", "5"])
def test_an_inspection_needs_episodes_and_a_setting(tmp_path: Path, inspect: str) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "one.yaml").write_text(f"# one\naxes: {{seed_of: [1]}}\ninspect: {inspect}\n")
    with pytest.raises(UserError, match="inspect must be a number of episodes"):
        read_plan("one", [str(tmp_path)])


def test_evaluations_are_read_as_points_are(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    block = "evaluations: [{axes: {episode.queries: [1, 5]}, model.norm: batch}, {evaluation.episodes: 9}]"
    (tmp_path / "sweep" / "one.yaml").write_text(f"# one\noverrides: {{algorithm: maml}}\n{block}\ninspect: 2\n")
    plan = read_plan("one", [str(tmp_path)])
    assert [dict(each) for each in plan.evaluations] == [
        {"model.norm": "batch", "episode.queries": "1"}, {"model.norm": "batch", "episode.queries": "5"},
        {"evaluation.episodes": "9"},
    ]  # fmt: skip
    assert plan.inspect == 2
