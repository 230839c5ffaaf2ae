"""Build all parts of a training run from its config."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from metaloop.config.build import build_dataset, build_learner, build_plan, check_learner, make
from metaloop.data.distribution import Dataset
from metaloop.data.episodes import check_spec
from metaloop.system.devices import check_precision
from metaloop.tracking.tracker import Tracker
from metaloop.training.run import RunParts
from metaloop.training.starting.warm_start import warm_start
from metaloop.training.stretches.stretches import check_mode

Config = Mapping[str, Any]


def build_run(config: Config, dataset: Dataset | None = None) -> RunParts:
    """Build all parts of a training run and check that they fit; opens the data set's splits.

    Args:
        config: Config of the run.
        dataset: The data set; None to build the config's.

    Raises:
        UserError: a part cannot be built, or two parts do not fit.
    """
    check_precision(config["trainer"])
    dataset = dataset or build_dataset(config)
    plan = build_plan(config).fitted(dataset)
    for split, spec in (("train", plan.train_spec), ("validation", plan.spec), ("test", plan.spec)):
        check_spec(dataset.split(split), spec)
    distribution = dataset.split("train")
    learner = build_learner(config, distribution, plan.train_spec)
    for spec in (plan.spec, plan.train_spec):
        check_learner(learner, distribution, spec)
    if config.get("start_from"):
        warm_start(learner, Path(config["start_from"]))
    outer = config["outer"]
    return RunParts(
        learner=learner,
        dataset=dataset,
        problem=distribution.problem,
        plan=replace(plan, passes=learner.passes),
        optimizer=make(outer["optimizer"], "outer.optimizer", Optimizer),
        schedule=_schedule(outer["schedule"]),
        low_precision_meta_gradient=outer["low_precision_meta_gradient"],
        trainer=make(config["trainer"], "trainer"),
        trackers=[make(node, f"logger.{name}", Tracker) for name, node in (config.get("logger") or {}).items()],
        log_every=config["log_every"],
        patience=config["validation"]["patience"],
        callbacks=_callbacks(config.get("callbacks") or {}),
        stretches=check_mode(config.get("stretches", False)),
        ensemble=config["evaluation"].get("ensemble", 1),  # runs of earlier versions have no such key
    )


def _schedule(node: Any) -> Callable[..., Any] | None:
    return None if node is None else make(node, "outer.schedule", LRScheduler)


def _callbacks(nodes: Config) -> list[Any]:
    from pytorch_lightning import Callback  # after metaloop.training, which makes this import fast

    return [make(node, f"callbacks.{name}", Callback) for name, node in nodes.items()]
