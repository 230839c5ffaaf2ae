"""The evaluations that experiments and studies list are accepted of the runs that they belong to."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from metaloop.config.build import make
from metaloop.config.composed import RunComposer
from metaloop.config.composition import composer
from metaloop.config.experiments import read_experiments
from metaloop.evaluation.evaluate import changed
from metaloop.evaluation.studies import CHECKPOINT
from metaloop.sweeps.plan import read_plan

FURTHER = [
    (name, one.overrides)
    for name, experiment in read_experiments().items()
    for one in (experiment.paper.also.values() if experiment.paper else ())
    if one.overrides
]
AVERAGES = (".running_mean", ".running_var")


@pytest.fixture(scope="module")
def compose() -> Iterator[Any]:
    with composer("train", [], []) as hydra:
        runs = RunComposer(hydra, [])
        yield lambda *lines: runs.compose(list(lines)).identity("x").config


def _names(config: dict[str, Any]) -> set[str]:
    """Names of the network's parameters and averages."""
    network: nn.Module = make(config["model"], "model", input_shape=(1, 28, 28), outputs=5)
    return set(network.state_dict())


@pytest.mark.parametrize(("name", "overrides"), FURTHER, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_row_of_an_evaluation_is_accepted_and_its_checkpoint_fits(
    compose: Any, name: str, overrides: tuple[str, ...]
) -> None:
    config = compose(f"experiment={name}")
    tested = changed(config, overrides)
    assert tested != config
    if tested["model"] != config["model"]:
        missing, extra = _names(tested) - _names(config), _names(config) - _names(tested)
        assert not missing
        assert all(each.endswith(AVERAGES) for each in extra)


@pytest.mark.parametrize("study", ["number", "reuse", "minutes"])
def test_the_evaluations_of_a_study_are_accepted(compose: Any, study: str) -> None:
    plan = read_plan(f"study_{study}")
    for run in plan.runs():
        config = compose(*(f"{key}={value}" for key, value in run.items()))
        for settings in plan.evaluations:
            words = [f"{key}={value}" for key, value in settings.items() if key != CHECKPOINT]
            changed(config, words)
