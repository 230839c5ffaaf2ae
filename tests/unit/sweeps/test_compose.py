"""From plans to composed runs."""

from pathlib import Path

import pytest

from metaloop.config.folder import conf_dir
from metaloop.errors import UserError
from metaloop.sweeps.compose import compose_runs, split_launcher, with_overrides
from metaloop.sweeps.plan import Plan, read_plan
from metaloop.sweeps.search.driver import checked_runs
from small_runs import SMALL, SMALL_CONF, described, make_scenario_file

CONF = [str(SMALL_CONF)]


MANY = ("omniglot_learners", "text_few_shot")  # runs; tests/config composes each experiment and text data set
NAMES = sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in MANY)) for name in NAMES])
def test_our_own_sweeps_compose(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scenario_file(tmp_path, monkeypatch)
    plan = read_plan(name)
    if plan.search:
        assert len(checked_runs(plan, plan.search, [])) > len(plan.search.space)
        return
    runs = compose_runs(plan, [])
    assert len(runs) == len(plan.runs())
    assert len({run.directory for run in runs}) == len(runs)


def test_a_run_is_what_train_makes_of_its_overrides() -> None:
    plan = with_overrides(Plan("p"), [*SMALL, "algorithm=maml,anil"], CONF)
    first, second = compose_runs(plan, CONF)
    alone = described(*SMALL, "algorithm=anil")
    assert second.description["config"] == alone.config
    assert second.key == second.description["fingerprint"] == alone.fingerprint
    assert second.description["choices"] == alone.choices
    assert (first.directory, second.directory) == (f"algorithm=maml-{first.key[:8]}", f"algorithm=anil-{second.key[:8]}")


def test_a_name_that_is_made_of_choices_is_each_runs_own() -> None:
    plan = with_overrides(Plan("p"), ["algorithm=maml,anil"], [])
    assert [run.description["name"] for run in compose_runs(plan, [])] == ["maml_glyphs", "anil_glyphs"]


def test_equal_configs_are_one_run() -> None:
    plan = with_overrides(Plan("p"), ["trainer.max_steps=100,1e2,100"], [])
    assert len(compose_runs(with_overrides(Plan("p"), ["algorithm=maml", "algorithm.rule.lr=0.4,0.40"], []), [])) == 1
    assert plan.axes == {"trainer.max_steps": ("100", "100.0")}


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("seed=range(3)", ("0", "1", "2")),
        ("algorithm=glob(m*mlpp)", ("mamlpp",)),
        ("seed=choice(4,2)", ("4", "2")),
        ("algorithm.rule.lr=0.1", None),
    ],
)
def test_all_of_hydras_discrete_sweeps(line: str, values: tuple[str, ...] | None) -> None:
    plan = with_overrides(Plan("p"), [line], [])
    key = line.partition("=")[0]
    if values is None:
        assert plan.overrides == {key: "0.1"}
    else:
        assert (plan.seeds if key == "seed" else plan.axes[key]) == values


def test_a_wrong_value_in_one_run_of_many_is_found() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps"):
        compose_runs(with_overrides(Plan("p"), ["seed=0,1", "trainer.max_steps=10,few"], []), [])


def test_what_is_for_the_launcher_is_no_part_of_the_runs() -> None:
    plan = with_overrides(Plan("p"), ["algorithm=maml", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], [])
    rest, theirs = split_launcher(plan)
    assert theirs == ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert rest.overrides == {"algorithm": "maml"}


def test_what_is_said_of_a_launcher_is_no_part_of_the_runs() -> None:
    theirs = {"hydra/launcher": "ray", "hydra.launcher.ray.init.address": "local", "+hydra.launcher.ray.init.num_cpus": "2"}
    plan, launcher = split_launcher(Plan("sweep", overrides={"algorithm": "maml", **theirs}))
    assert plan.overrides == {"algorithm": "maml"}
    assert launcher == [f"{key}={value}" for key, value in theirs.items()]


def test_F19_directories_tell_keys_of_one_last_part_apart() -> None:
    plan = with_overrides(Plan("p"), ["algorithm.rule.lr=0.4,0.3", "outer.optimizer.lr=0.01,0.02"], [])
    names = {planned.directory.rpartition("-")[0] for planned in compose_runs(plan, [])}
    assert "algorithm.rule.lr=0.4,outer.optimizer.lr=0.01" in names
    assert len(names) == 4
