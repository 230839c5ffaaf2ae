"""Build objects from configs: the only module that instantiates.

A run is built from a plain dict, so that another process can build the same run. The results are objects, numbers and dicts.
What only training needs is built by ``build_run.py``, so that a prediction need not import Lightning.
"""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hydra.utils
import torch
from hydra._internal.utils import _locate
from hydra.errors import InstantiationException
from hydra.utils import get_class, get_object, instantiate
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from metaloop.config.exit_codes import users_fault
from metaloop.config.targets.allowed import check_identity, named_targets
from metaloop.config.trained_on import TrainedOn, trained_on
from metaloop.data.distribution import Dataset, TaskDistribution
from metaloop.data.encoded import EncodedDataset, Encoder
from metaloop.data.plan import EpisodePlan
from metaloop.errors import UserError
from metaloop.learners.frozen import frozen_encoder
from metaloop.learners.learner import Learner
from metaloop.models.model import KeepsFiles, Model, ReadsTexts
from metaloop.models.projection import OnFeatures
from metaloop.problems.control import actions_of, check_acts
from metaloop.system.cache import cache_folder
from metaloop.types import EpisodeSpec, Field, Inputs, Tokenizer, highest

Config = Mapping[str, Any]
_Base = TypeVar("_Base")
_MADE_LATER = (Optimizer, LRScheduler)  # their nodes are ``_partial_``
_HYDRA_ASKS = hasattr(hydra.utils, "execution_whitelist")  # from 1.4 on


def make(node: Any, key: str, kind: type | None = None, **more: Any) -> Any:
    """Instantiate a config node.

    Args:
        node: The node, with its ``_target_``.
        key: Key of the node, for error messages.
        kind: Class of the result, or of what the result makes if the node is ``_partial_``; None for any.
        more: Further arguments, which come from the program and not from the config.

    Raises:
        UserError: the class does not exist or is of another kind, or an argument is missing, unknown or refused.
    """
    _check_kind(node, key, kind)
    names = _checked_names(node, key)
    allowed = {"_execution_whitelist_": names} if _HYDRA_ASKS else {}
    data = {name: value for name, value in more.items() if _holds_dataclasses(value)}
    rest = {name: value for name, value in more.items() if name not in data} | ({"_partial_": True} if data else {})
    try:
        made = instantiate(node, **rest, **allowed, _convert_="all")
        made = made(**data) if data else made
    except Exception as error:
        message = _explained(error, node, key)
        if message is None:
            raise
        raise UserError(message) from error
    if kind is not None and not node.get("_partial_") and not isinstance(made, kind):
        raise UserError(f"{key}._target_={node.get('_target_')} made a {type(made).__name__}, not a {_name(kind)}")
    return made


def _holds_dataclasses(value: object) -> bool:
    """Whether Hydra would turn an argument into a config."""
    return is_dataclass(value) or (isinstance(value, tuple) and any(map(is_dataclass, value)))


def _explained(error: Exception, node: Any, key: str) -> str | None:
    """The message about a node that cannot be built; None for a fault of the class that it names.

    Hydra 1.3 wraps what the class raises in an exception of its own, and Hydra 1.4 does not.
    """
    cause = error.__cause__ if isinstance(error, InstantiationException) else error
    link: BaseException | None = cause
    while link is not None and not isinstance(link, UserError):
        link = link.__cause__
    if link is not None:
        return str(link)
    reason = " ".join(str(error).split())
    if cause is None or isinstance(cause, TypeError | ImportError | AttributeError):
        return f"{key} cannot be built: {reason}{_hint(cause)}"
    if isinstance(cause, ArithmeticError | ValueError | RuntimeError) and users_fault(error) is None:
        return f"{key} cannot be built with the arguments {_arguments(node)}: {reason}"
    return None


def _checked_names(node: Any, key: str) -> tuple[str, ...]:
    """The targets of a node, whose names were checked with the config, and where they are at home, which is checked here."""
    names = []
    for place, target in named_targets(node, key):
        names.append(target)
        try:
            found = _locate(target)
        except Exception:  # instantiating says what is wrong
            continue
        check_identity(place, target, found)
        names.append(f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}".strip("."))
    return tuple(filter(None, names))


def _hint(error: BaseException | None) -> str:
    missing = isinstance(error, ModuleNotFoundError) or "No module named" in str(error)
    remedy = "; name your folder of configuration with --config-dir, put the package's folder on PYTHONPATH, or install it"
    return remedy if missing else ""


def _arguments(node: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in node.items() if not str(name).startswith("_"))


def _check_kind(node: Any, key: str, kind: type | None) -> None:
    """Refuse a class of another kind before it is called; a function may make anything."""
    if kind is None:
        return
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node!r}: must be a mapping with the _target_ of a {_name(kind)}")
    if node.get("_partial_") and kind not in _MADE_LATER:
        raise UserError(
            f"{key}._partial_=true: a {kind.__name__} is made whole, metaloop passes the other arguments; leave it out"
        )
    try:
        target = _locate(str(node.get("_target_")))
    except Exception:  # instantiating says what is wrong
        return
    if isinstance(target, type) and not issubclass(target, kind):
        raise UserError(f"{key}._target_={node.get('_target_')}: must be a {_name(kind)}")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def episode_specs(episode: Config) -> tuple[EpisodeSpec, EpisodeSpec]:
    """Sizes of evaluation and of training episodes."""
    sizes = {name: episode[name] for name in ("ways", "shots", "queries")}
    sizes |= {name: episode[name] for name in ("unlabelled", "distractors") if episode.get(name) is not None}
    train_sizes = {name: value for name, value in (episode.get("train") or {}).items() if value is not None}
    return EpisodeSpec(**sizes), EpisodeSpec(**(sizes | train_sizes), training=frozenset(train_sizes))


def build_dataset(config: Config) -> Dataset:
    """Build the data set, without reading data.

    A data set of texts (``needs_tokenizer``) receives the model's tokeniser. If the model is frozen, its features replace the
    examples.
    """
    texts = _class_of(config["dataset"], Dataset).needs_tokenizer  # type: ignore[type-abstract]
    more = {"tokenizer": build_tokenizer(config["model"])} if texts else {}
    dataset: Dataset = make(config["dataset"], "dataset", Dataset, **more)
    if not config.get("model", {}).get("frozen"):
        return dataset
    return EncodedDataset(dataset, partial(build_encoder, config), cache_folder(config["dataset"].get("cache_dir")))


def build_tokenizer(model: Config) -> Tokenizer:
    """Build the tokeniser that a model's class names.

    Raises:
        UserError: the model does not read texts.
    """
    texts = _class_of(model, ReadsTexts)  # type: ignore[type-abstract]
    if texts is ReadsTexts:
        raise UserError(
            f"model._target_={model['_target_']!r} does not read texts, but this data set has texts; use a model with a "
            f"tokenizer, such as model=minilm, model=tfidf or model=tiny_bert"
        )
    return texts.tokenizer(model)


def keep_model_files(model: Config, folder: Path) -> None:
    """Copy the files that a model is made from, except its weights, into ``folder``; nothing for a model without files.

    Raises:
        UserError: the files are gone.
    """
    made_from_files = _class_of(model, KeepsFiles)  # type: ignore[type-abstract]
    if made_from_files is not KeepsFiles and model.get("name_or_path") is not None:
        made_from_files.keep(model["name_or_path"], folder)


def build_encoder(config: Config, input_shape: tuple[int, ...]) -> Encoder:
    """Build the frozen model that computes features of examples of this shape."""
    node = {key: value for key, value in config["model"].items() if key != "projection"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])  # for models with random weights
        model = make(node, "model", nn.Module, input_shape=input_shape, outputs=None)
    on_gpu = config["trainer"].get("accelerator") in ("gpu", "cuda") and torch.cuda.is_available()
    return frozen_encoder(model, json.dumps(node, sort_keys=True), torch.device("cuda" if on_gpu else "cpu"))


def build_learner(config: Config, distribution: TaskDistribution, ways: EpisodeSpec) -> Learner:
    """Build the model and the learner around it; ``seed`` alone determines their parameters.

    Args:
        config: Config of the run.
        distribution: Meta-training tasks, which give input shape, problem and number of classes.
        ways: Size of training episodes, which gives the number of a head's outputs.
    """
    return build_learner_for(config, trained_on(distribution, ways))


def build_learner_for(config: Config, tasks: TrainedOn) -> Learner:
    """Build as :func:`build_learner` does, from a description of the meta-training tasks."""
    requires = _learner_class(config["algorithm"]).requires
    more: dict[str, Any] = {"classes": tasks.classes} if requires.classes else {}
    if requires.outputs:
        more["outputs"] = tasks.outputs
    if requires.actions:
        more["actions"] = actions_of(tasks.problem)
    arguments: dict[str, Any] = {"input_shape": tasks.input_shape, "outputs": tasks.outputs if requires.head else None}
    node = _learned(config["model"])
    wanted = _class_of(node, Model)
    if wanted.needs_examples:
        arguments["examples"] = _examples(tasks, node)
    if wanted.needs_fields:
        arguments["fields"] = _fields(tasks, node)
    if wanted.needs_labelled:
        arguments["labelled"] = tasks.labelled
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        model = make(node, "model", nn.Module, **arguments)
        _check_made(model)
        learner: Learner = make(config["algorithm"], "algorithm", Learner, model=model, loss=tasks.problem.loss, **more)
    return learner


def _check_made(model: nn.Module) -> None:
    """Raise a UserError if a layer of the network has no size yet."""
    empty = [name for name, value in model.named_parameters() if isinstance(value, nn.UninitializedParameter)]
    if empty:
        raise UserError(
            f"model: {type(model).__qualname__} has layers without a size ({', '.join(empty)}); call it once in __init__, on "
            f"torch.zeros(1, *input_shape), or give the sizes"
        )


def _examples(tasks: TrainedOn, model: Config) -> Inputs:
    """All inputs of the meta-training split, for models that read them once."""
    if tasks.inputs is None:
        raise UserError(
            f"model._target_={model['_target_']!r} reads all meta-training examples, but this data set has no list of them; "
            f"choose another model=... or dataset=..."
        )
    return tasks.inputs


def _fields(tasks: TrainedOn, model: Config) -> tuple[Field, ...]:
    """The features of categorical inputs, for models that embed them."""
    if not tasks.fields:
        raise UserError(
            f"model._target_={model['_target_']!r} embeds categories, but the inputs of this data set are none; take "
            f"dataset=made_up_ratings or dataset=movielens, or choose another model=..."
        )
    return tasks.fields


def _learned(model: Config) -> Config:
    """The part of the model that is meta-trained: all of it, or the layer on top of a frozen model's features."""
    if not model.get("frozen"):
        return model
    return {"_target_": f"{OnFeatures.__module__}.{OnFeatures.__name__}", "projection": model.get("projection")}


def check_learner(learner: Learner, distribution: TaskDistribution, spec: EpisodeSpec) -> None:
    """Raise a UserError if the learner cannot handle episodes of this size, or would ignore their unlabelled examples."""
    ways = highest(spec.ways)
    check_acts(distribution.problem, learner.requires.actions)
    if distribution.cross_validated and learner.learns:
        raise UserError(
            "algorithm: this data set is a cross-validation, whose support sets together hold every query; a learner that "
            "learns from one task to the next would know them. Take algorithm=meta_forest, meta_tree, nearest_datasets or "
            "dataset_embedding, model=cells"
        )
    classes = distribution.outputs(spec) if distribution.problem.has_classes else ways
    try:
        learner.check(classes)
    except UserError as error:
        if classes == ways:
            raise
        raise UserError(
            f"{error} (ways here are all classes of a task; episode.ways={ways} counts {classes - ways} fewer)"
        ) from error
    if spec.unlabelled and not learner.uses_unlabelled:
        raise UserError(
            f"episode.unlabelled={spec.unlabelled}: this learner uses labelled examples only; set episode.unlabelled=0 (the "
            f"labelled ones stay the same), or use algorithm=soft_kmeans"
        )


def _class_of(node: Config, base: type[_Base]) -> type[_Base]:
    """The class that a config node names if it is a subclass of ``base``; else ``base``, which holds the defaults.

    A name that does not exist gives ``base`` too; building the node raises the error.
    """
    try:
        target = get_object(str(node.get("_target_")))
    except (ImportError, ValueError, AttributeError):
        return base
    return target if isinstance(target, type) and issubclass(target, base) else base


def _learner_class(node: Config) -> type[Learner]:
    target = node.get("_target_")
    try:
        named = get_class(str(target))
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(f"algorithm._target_={target!r} names no class that can be imported: {error}{_hint(error)}") from error
    if not issubclass(named, Learner):
        raise UserError(f"algorithm._target_={target}: must be a metaloop.learners.learner.Learner")
    return named


def build_plan(config: Config) -> EpisodePlan:
    """Build the plan of the episodes that the run draws."""
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
        fit=bool(config["episode"].get("fit")),
    )
