"""From configs to objects: the only place that instantiates.

What goes further is plain: objects, numbers, dicts. A run is built from a plain dict, so that another process can build it too.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, get_object, instantiate

from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.encoded import EncodedDataset, Encoder
from metaloop.data.episodes import check_spec
from metaloop.errors import UserError
from metaloop.learners.frozen import frozen_encoder
from metaloop.learners.learner import Learner
from metaloop.models.model import KeepsFiles, Model, ReadsTexts
from metaloop.models.projection import OnFeatures
from metaloop.problems.problem import Problem
from metaloop.system.cache import cache_folder
from metaloop.system.devices import check_precision
from metaloop.training.datamodule import EpisodePlan
from metaloop.training.run import RunParts
from metaloop.types import EpisodeSpec, Inputs, Tokenizer, highest

Config = Mapping[str, Any]
_Base = TypeVar("_Base")


def make(node: Any, key: str, **more: Any) -> Any:
    """Instantiate the config node ``key``; ``more`` are arguments that only the program knows.

    Raises:
        UserError: the class does not exist, an argument is missing, unknown or refused.
    """
    try:
        return instantiate(node, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is not None:
            raise UserError(str(cause)) from error
        reason = " ".join(str(error).split())
        if isinstance(error.__cause__, TypeError | ImportError | AttributeError) or error.__cause__ is None:
            raise UserError(f"{key} cannot be built: {reason}") from error
        raise


def episode_specs(episode: Config) -> tuple[EpisodeSpec, EpisodeSpec]:
    """The evaluation and the training episodes' size."""
    sizes = {name: episode[name] for name in ("ways", "shots", "queries")}
    sizes |= {name: episode[name] for name in ("unlabelled", "distractors") if episode.get(name) is not None}
    given = {name: value for name, value in (episode.get("train") or {}).items() if value is not None}
    return EpisodeSpec(**sizes), EpisodeSpec(**(sizes | given))


def build_dataset(config: Config) -> Dataset:
    """The data set; nothing is read yet.

    A data set of texts (``needs_tokenizer``) is given the tokeniser of the model. Where the model is frozen, its features take
    the examples' place.
    """
    texts = _class_of(config["dataset"], Dataset).needs_tokenizer
    more = {"tokenizer": build_tokenizer(config["model"])} if texts else {}
    dataset: Dataset = make(config["dataset"], "dataset", **more)
    if not config.get("model", {}).get("frozen"):
        return dataset
    return EncodedDataset(dataset, partial(build_encoder, config), cache_folder(config["dataset"].get("cache_dir")))


def build_tokenizer(model: Config) -> Tokenizer:
    """The tokeniser that a model's class names.

    Raises:
        UserError: the model reads no texts.
    """
    texts = _class_of(model, ReadsTexts)
    if texts is ReadsTexts:
        raise UserError(
            f"model._target_={model['_target_']!r} reads no texts, which this data set is of; take one that has a tokenizer, "
            f"such as model=minilm, model=tfidf or model=tiny_bert"
        )
    return texts.tokenizer(model)


def keep_model_files(model: Config, folder: Path) -> None:
    """Write into ``folder`` all but the weights that a model is made from, where it is made from files (``keep``).

    Raises:
        UserError: the files are gone.
    """
    made_from_files = _class_of(model, KeepsFiles)
    if made_from_files is not KeepsFiles and model.get("name_or_path") is not None:
        made_from_files.keep(model["name_or_path"], folder)


def build_encoder(config: Config, input_shape: tuple[int, ...]) -> Encoder:
    """The frozen model, which makes features of examples of this shape."""
    node = {key: value for key, value in config["model"].items() if key != "projection"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])  # where the weights are random
        model = make(node, "model", input_shape=input_shape, outputs=None)
    on_gpu = config["trainer"].get("accelerator") in ("gpu", "cuda") and torch.cuda.is_available()
    return frozen_encoder(model, json.dumps(node, sort_keys=True), torch.device("cuda" if on_gpu else "cpu"))


@dataclass(frozen=True)
class TrainedOn:
    """All of the meta-training tasks that a model and a learner are built for.

    Attributes:
        problem: what they ask.
        input_shape: one example's shape.
        outputs: how many numbers a query asks.
        classes: of meta-training; None where they are not numbered.
        inputs: meta-training examples, for models that look at them once; None where there is no list of them.
    """

    problem: Problem
    input_shape: tuple[int, ...]
    outputs: int
    classes: int | None
    inputs: Inputs | None


def trained_on(distribution: TaskDistribution, spec: EpisodeSpec) -> TrainedOn:
    """What the tasks of a meta-training split are, in episodes of this size."""
    inputs, shape = getattr(distribution, "inputs", None), tuple(distribution.input_shape)
    return TrainedOn(distribution.problem, shape, distribution.outputs(spec), distribution.num_classes, inputs)


def build_learner(config: Config, distribution: TaskDistribution, ways: EpisodeSpec) -> Learner:
    """The model and the learner around it, initialised from ``seed`` alone.

    Args:
        config: of the run.
        distribution: tells input shape, problem and number of classes.
        ways: the training episodes' size; decides how many numbers a head answers.
    """
    return build_learner_for(config, trained_on(distribution, ways))


def build_learner_for(config: Config, tasks: TrainedOn) -> Learner:
    """As :func:`build_learner`, for meta-training tasks that are only described."""
    requires = _learner_class(config["algorithm"]).requires
    more: dict[str, Any] = {"classes": tasks.classes} if requires.classes else {}
    if requires.outputs:
        more["outputs"] = tasks.outputs
    own: dict[str, Any] = {"input_shape": tasks.input_shape, "outputs": tasks.outputs if requires.head else None}
    node = _learned(config["model"])
    if _class_of(node, Model).needs_examples:
        own["examples"] = _examples(tasks, node)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        model = make(node, "model", **own)
        return make(config["algorithm"], "algorithm", model=model, loss=tasks.problem.loss, **more)


def _examples(tasks: TrainedOn, model: Config) -> Inputs:
    """All inputs of the meta-training split, for models that look at them once."""
    if tasks.inputs is None:
        raise UserError(
            f"model._target_={model['_target_']!r} looks at all meta-training examples; this data set has no list of them"
        )
    return tasks.inputs


def _learned(model: Config) -> Config:
    """What of the model learners see: all of it, or what is on top of a frozen one's features."""
    if not model.get("frozen"):
        return model
    return {"_target_": f"{OnFeatures.__module__}.{OnFeatures.__name__}", "projection": model.get("projection")}


def check_learner(learner: Learner, distribution: TaskDistribution, spec: EpisodeSpec) -> None:
    """Raise a UserError where the learner cannot do episodes of this size, or would not look at a part of them."""
    ways = highest(spec.ways)
    classes = distribution.outputs(spec) if distribution.problem.has_classes else ways
    try:
        learner.check(classes)
    except UserError as error:
        if classes == ways:
            raise
        raise UserError(
            f"{error} (ways here are all classes of a task; episode.ways={ways} counts {classes - ways} less)"
        ) from error
    if spec.unlabelled and not learner.uses_unlabelled:
        raise UserError(
            f"episode.unlabelled={spec.unlabelled}: this learner looks at labelled examples alone; take 0 (the labelled "
            f"ones stay the same), or algorithm=soft_kmeans"
        )


def _class_of(node: Config, base: type[_Base]) -> type[_Base]:
    """The class that a config node names, if it is a ``base``; else ``base`` itself, with its defaults.

    Nor is a function one, nor what does not exist, which whoever builds it reports.
    """
    try:
        named = get_object(str(node.get("_target_")))
    except (ImportError, ValueError, AttributeError):
        return base
    return named if isinstance(named, type) and issubclass(named, base) else base


def _learner_class(node: Config) -> type[Learner]:
    target = node.get("_target_")
    try:
        named = get_class(str(target))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"algorithm._target_={target!r} names no class that can be imported: {error}") from error
    if not issubclass(named, Learner):
        raise UserError(f"algorithm._target_={target}: must be a metaloop.learners.learner.Learner")
    return named


def build_plan(config: Config) -> EpisodePlan:
    """Which episodes the run sees."""
    spec, train_spec = episode_specs(config["episode"])
    return EpisodePlan(
        spec=spec,
        train_spec=train_spec,
        meta_batch=config["outer"]["meta_batch"],
        seed=config["seed"],
        eval_seed=config["evaluation"]["seed"],
        validation_episodes=config["validation"]["episodes"],
        test_episodes=config["evaluation"]["episodes"],
        eval_batch=config["evaluation"]["batch"],
        interval=config["validation"]["every"],
        workers=config["workers"],
    )


def build_run(config: Config) -> RunParts:
    """All parts of a training run, checked against each other; the data's training and validation splits are opened."""
    check_precision(config["trainer"])
    dataset, plan = build_dataset(config), build_plan(config)
    for split, spec in (("train", plan.train_spec), ("validation", plan.spec), ("test", plan.spec)):
        check_spec(dataset.split(split), spec)
    distribution = dataset.split("train")
    learner = build_learner(config, distribution, plan.train_spec)
    for spec in (plan.spec, plan.train_spec):
        check_learner(learner, distribution, spec)
    outer = config["outer"]
    return RunParts(
        learner=learner,
        dataset=dataset,
        problem=distribution.problem,
        plan=plan,
        optimizer=make(outer["optimizer"], "outer.optimizer"),
        schedule=_schedule(outer["schedule"]),
        low_precision_meta_gradient=outer["low_precision_meta_gradient"],
        trainer=make(config["trainer"], "trainer"),
        trackers=[make(node, f"logger.{name}") for name, node in config["logger"].items()],
        log_every=config["log_every"],
        patience=config["validation"]["patience"],
    )


def _schedule(node: Any) -> Callable[..., Any] | None:
    return None if node is None else make(node, "outer.schedule")
