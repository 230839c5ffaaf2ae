"""Every concrete class that a contract must cover, and how to build it. Adding a member is one line here."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

import metaloop
from metaloop.inner.adapted import Adapted, All, Body, Head, Pattern
from metaloop.inner.auto import Auto
from metaloop.inner.head_init import HeadInit, Learned, Zero
from metaloop.inner.meta_gradient import Displacement, FirstOrder, MetaGradient, Unrolled
from metaloop.inner.objective import LastStep, Objective, WeightedSum
from metaloop.inner.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.reverse_sweep import ReverseSweep
from metaloop.inner.rules import GradientDescent, InnerRule, LearnedRate
from metaloop.learners.gradient import GradientLearner
from metaloop.learners.learner import Learner
from metaloop.learners.prototypes import Prototypes
from metaloop.learners.task_loss import CrossEntropy, MeanSquaredError, TaskLoss
from metaloop.models.conv4 import Conv4
from metaloop.models.huggingface import TextClassifier
from metaloop.models.mlp import MLP
from metaloop.types import Params

Rule = Callable[[Params], InnerRule]
Build = Callable[[tuple[int, ...], int | None, str], nn.Module]  # input shape, outputs, norm mode

TINY_BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 8,
}

ADAPTED: Mapping[str, Adapted] = {
    "all": All(),
    "head": Head(),
    "body": Body(),
    "pattern": Pattern(r"blocks\.[13]|layers\.0|intermediate|head\.weight"),
}
RULES: Mapping[str, Rule] = {
    "gradient descent": partial(GradientDescent, lr=0.1),
    "rate per tensor": partial(LearnedRate, lr=0.1, granularity="tensor"),
    "rate per element": partial(LearnedRate, lr=0.1, granularity="element"),
}
EXACT: Mapping[str, MetaGradient] = {"unrolled": Unrolled(), "reverse sweep": ReverseSweep()}
APPROXIMATE: Mapping[str, MetaGradient] = {"first order": FirstOrder(), "displacement": Displacement()}
OBJECTIVES: Mapping[str, Objective] = {
    "last step": LastStep(),
    "weighted sum": WeightedSum(),
    "weighted sum, given": WeightedSum([0.5, 2.0]),
}
HEAD_INITS: Mapping[str, HeadInit] = {"learned": Learned(), "zero": Zero()}
OVER_TASKS: Mapping[str, Callable[[], OverTasks]] = {
    "loop": Loop,
    "vmap": Vmap,
    "vmap, chunks": lambda: Vmap(chunk=2),
    "auto": lambda: Auto(expected_steps=1),
}
TASK_LOSSES: Mapping[str, TaskLoss] = {"cross-entropy": CrossEntropy(), "mean squared error": MeanSquaredError()}


def gradient_learner(
    model: nn.Module,
    over_tasks: OverTasks,
    *,
    loss: TaskLoss = TASK_LOSSES["cross-entropy"],
    adapted: Adapted = ADAPTED["all"],
    rule: Rule = RULES["gradient descent"],
    meta_gradient: MetaGradient = EXACT["unrolled"],
    objective: Objective = OBJECTIVES["last step"],
    head_init: HeadInit = HEAD_INITS["learned"],
    steps: int = 2,
    inner_batch: int | None = None,
) -> GradientLearner:
    """A gradient learner: MAML unless told otherwise."""
    return GradientLearner(
        model, loss, adapted, rule, meta_gradient, objective, head_init, over_tasks, steps, inner_batch=inner_batch
    )


LEARNERS: Mapping[str, Callable[[nn.Module, OverTasks], Learner]] = {
    "maml": gradient_learner,
    "fomaml": partial(gradient_learner, meta_gradient=APPROXIMATE["first order"]),
    "reptile": partial(gradient_learner, meta_gradient=APPROXIMATE["displacement"]),
    "anil, reverse sweep": partial(gradient_learner, adapted=ADAPTED["head"], meta_gradient=EXACT["reverse sweep"]),
    "boil, weighted sum": partial(gradient_learner, adapted=ADAPTED["body"], objective=OBJECTIVES["weighted sum, given"]),
    "metasgd, zero head": partial(
        gradient_learner, rule=RULES["rate per element"], head_init=HEAD_INITS["zero"], adapted=ADAPTED["pattern"]
    ),
    "inner batches": partial(gradient_learner, inner_batch=4, rule=RULES["rate per tensor"]),
    "prototypes": lambda model, over_tasks: Prototypes(model, TASK_LOSSES["cross-entropy"], over_tasks),
}


def width(norm: str) -> int:
    """Channels: with fewer than three a group, group norm leaves little but signs."""
    return 24 if norm == "group" else 8


# Input shape that the contracts use, and how to build the model for it.
MODELS: Mapping[str, tuple[tuple[int, ...], Build]] = {
    "conv4, stride": (
        (1, 8, 8),
        lambda shape, outputs, norm: Conv4(shape, outputs, filters=width(norm), downsample="stride", norm=norm),
    ),
    "conv4, pool": (
        (1, 16, 16),
        lambda shape, outputs, norm: Conv4(shape, outputs, filters=width(norm), downsample="pool", norm=norm),
    ),
    "mlp": ((5,), lambda shape, outputs, norm: MLP(shape, outputs, hidden=[width(norm)] * 2, norm=norm)),
    "text": ((6,), lambda shape, outputs, norm: TextClassifier(shape, outputs, config=TINY_BERT)),
}

ALL_MEMBERS: Mapping[type, set[type]] = {
    Adapted: {type(each) for each in ADAPTED.values()},
    InnerRule: {each.func for each in RULES.values()},  # type: ignore[attr-defined]
    MetaGradient: {type(each) for each in (EXACT | APPROXIMATE).values()},  # type: ignore[operator]
    Objective: {type(each) for each in OBJECTIVES.values()},
    HeadInit: {type(each) for each in HEAD_INITS.values()},
    OverTasks: {type(make()) for make in OVER_TASKS.values()},
    Learner: {type(make(MLP((2,), 2, [2]), Loop())) for make in LEARNERS.values()},
    TaskLoss: {type(each) for each in TASK_LOSSES.values()},
    nn.Module: {type(build(shape, 2, "none")) for shape, build in MODELS.values()},  # the models
}


def package_classes() -> set[type]:
    """All classes defined in the package's modules; the entry points' modules are not needed for that."""
    found = set()
    for module in pkgutil.walk_packages(metaloop.__path__, "metaloop."):
        if module.name.rpartition(".")[0] == "metaloop" or module.name.endswith("__main__"):
            continue  # entry points
        members = vars(importlib.import_module(module.name)).values()
        found |= {each for each in members if inspect.isclass(each) and each.__module__ == module.name}
    return found


def is_model(cls: type) -> bool:
    """Whether a class is built as ``conf/model`` builds one."""
    return issubclass(cls, nn.Module) and list(inspect.signature(cls).parameters)[:2] == ["input_shape", "outputs"]


def not_covered(base: type, classes: set[type]) -> set[str]:
    """Names of the concrete subclasses of ``base`` (models for ``nn.Module``) among ``classes`` without a line above."""
    if base is nn.Module:
        members = {cls for cls in classes if is_model(cls)}
    else:
        members = {cls for cls in classes if issubclass(cls, base) and not inspect.isabstract(cls)}
    return {cls.__name__ for cls in members - ALL_MEMBERS[base]}
