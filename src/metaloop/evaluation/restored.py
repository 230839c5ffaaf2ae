"""A finished run's learner and test episodes, restored from its checkpoint and config."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from metaloop.config.build import build_dataset, build_learner, build_plan, check_learner
from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.episodes import Episodes, check_spec
from metaloop.data.recorded import RecordedDataset
from metaloop.errors import UserError
from metaloop.evaluation.device import set_up_device
from metaloop.evaluation.finished_run import FinishedRun
from metaloop.learners.learner import Learner
from metaloop.training.datamodule import EpisodeDataModule
from metaloop.training.meta_test import restored
from metaloop.training.outer_module import OuterModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoredTest:
    """Learner and episodes for a test, an inspection or a comparison of a run.

    Attributes:
        module: Module with the best checkpoint's parameters, in evaluation mode.
        data: Data module that draws the episodes.
        device: Device of both.
    """

    module: OuterModule
    data: EpisodeDataModule
    device: torch.device

    @property
    def learner(self) -> Learner:
        """The restored learner."""
        return self.module.learner

    @property
    def episodes(self) -> Episodes:
        """Episodes of the meta-test, or of the other split that is scored."""
        return self.data.episodes(self.data.scored, self.device)


def restore_test(run: FinishedRun, config: Mapping[str, Any], *, own_episodes: bool, split: str = "test") -> RestoredTest:
    """See :meth:`FinishedRun.test`."""
    device = set_up_device(config)
    unchecked, plan = build_dataset(config), build_plan(config)
    dataset = _checked(run, config, unchecked, split)
    plan = plan.fitted(dataset)
    test_split = dataset.split(split)
    if test_split.spec is not None and own_episodes:
        plan = replace(plan, spec=test_split.spec)
    check_spec(test_split, plan.spec)
    trained_data = RecordedDataset(build_dataset(run.config), run.contents)
    trained_on = trained_data.split("train")
    _check_alike(trained_on, test_split, config["dataset"])
    learner = build_learner(config, trained_on, build_plan(run.config).fitted(trained_data).train_spec)
    check_learner(learner, test_split, plan.spec)
    if config["model"] == run.config["model"]:  # the user may have chosen another encoder on purpose
        run.check_encoder(unchecked)
    module = restored(learner, test_split.problem, run.identity.fingerprint, run.checkpoint)
    return RestoredTest(module.to(device).eval(), EpisodeDataModule(dataset, plan, scored=split), device)


def _checked(run: FinishedRun, config: Mapping[str, Any], dataset: Dataset, split: str) -> Dataset:
    """Require of the run's own data set that it has not changed; warn of classes that were trained on in another one."""
    if config["dataset"] == run.config["dataset"]:
        return RecordedDataset(dataset, run.contents)
    trained, tested = run.contents.get("train"), dataset.contents(split)
    both = [name for name in tested.classes if trained and name in trained.classes] if tested else []
    if both:
        log.warning(
            "%d of %d classes that are scored have the name of a class that the run was trained on, such as %s: if they are "
            "the same, this is no test on new classes", len(both), len(tested.classes) if tested else 0, both[0],
        )  # fmt: skip
    return dataset


def _check_alike(trained_on: TaskDistribution, test: TaskDistribution, config: Mapping[str, Any]) -> None:
    train_shape, test_shape = tuple(trained_on.input_shape), tuple(test.input_shape)
    remedy = "choose another dataset=..., or change the data set's keys"
    if type(trained_on.problem.loss) is not type(test.problem.loss):  # outputs have another meaning
        difference = f"tasks of {trained_on.problem.name}, this data set has {test.problem.name}"
    elif train_shape != test_shape:
        difference = f"inputs of shape {train_shape}, this data set has {test_shape}"
        if len(train_shape) == len(test_shape) == 3:
            remedy = _image_keys(train_shape, test_shape, config) or remedy
    else:
        return
    raise UserError(f"the run was trained on {difference}: {remedy}")


def _image_keys(wanted: tuple[int, ...], received: tuple[int, ...], config: Mapping[str, Any]) -> str:
    """The keys that give the images of a data set the form of the run's (channels, height, width); empty if it has none."""
    keys = []
    if wanted[1:] != received[1:] and "side" in config:
        keys.append(f"dataset.side={wanted[1]}")
    if wanted[0] != received[0] and "mode" in config and wanted[0] in (1, 3):
        one = "dataset.mode=grey (or ink, for dark drawings on white that were learned as bright ones on black)"
        keys.append(one if wanted[0] == 1 else "dataset.mode=color")
    return f"set {' and '.join(keys)}" if keys else ""
