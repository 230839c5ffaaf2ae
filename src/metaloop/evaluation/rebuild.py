"""A finished run's learner and test episodes, built again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from metaloop.config.build import build_dataset, build_learner, build_plan, check_learner
from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.episodes import check_spec
from metaloop.errors import UserError
from metaloop.learners.learner import Learner
from metaloop.training.datamodule import EpisodePlan


@dataclass(frozen=True)
class Rebuilt:
    """What an evaluation or an inspection of a run starts from.

    Attributes:
        learner: as it was before training; the checkpoint has its parameters.
        dataset: whose test split is asked, which is checked against the plan.
        plan: which episodes.
    """

    learner: Learner
    dataset: Dataset
    plan: EpisodePlan


def rebuild(trained: Mapping[str, Any], config: Mapping[str, Any], *, own_episodes: bool) -> Rebuilt:
    """Build a run's learner, and the data set and episodes that it is to be tested on.

    Args:
        trained: config of the run.
        config: the same with what the test wants otherwise.
        own_episodes: whether episodes of a size that the data set prescribes are wanted where it prescribes one.

    Raises:
        UserError: the learner cannot be tested on these episodes.
    """
    dataset, plan = build_dataset(config), build_plan(config)
    test_split = dataset.split("test")
    if test_split.spec is not None and own_episodes:
        plan = replace(plan, spec=test_split.spec)
    check_spec(test_split, plan.spec)
    trained_on = build_dataset(trained).split("train")
    _check_alike(trained_on, test_split)
    learner = build_learner(config, trained_on, build_plan(trained).train_spec)
    check_learner(learner, test_split, plan.spec)
    return Rebuilt(learner, dataset, plan)


def _check_alike(trained_on: TaskDistribution, test: TaskDistribution) -> None:
    ours, theirs = tuple(trained_on.input_shape), tuple(test.input_shape)
    if type(trained_on.problem.loss) is not type(test.problem.loss):  # answers mean something else
        difference = f"tasks of {trained_on.problem.name}, this data set has {test.problem.name}"
    elif ours != theirs:
        difference = f"inputs of shape {ours}, this data set has {theirs}"
    else:
        return
    raise UserError(f"the run was trained on {difference}: choose another dataset=..., or its keys")
