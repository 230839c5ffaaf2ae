"""Every concrete class that a contract must cover, and how to build it. Adding a member is one line here."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from torch import nn

import metaloop
from metaloop.inner.execution.auto import Auto
from metaloop.inner.execution.over_tasks import Loop, OverTasks, Vmap
from metaloop.inner.execution.workers import Workers
from metaloop.inner.head_init import Center, Fresh, FromPrototypes, HeadInit, Learned, Shared, Zero
from metaloop.inner.meta_gradients.annealed import Annealed
from metaloop.inner.meta_gradients.by_part import ByPart
from metaloop.inner.meta_gradients.evolution import EvolutionStrategies, PersistentEvolution
from metaloop.inner.meta_gradients.implicit import Implicit
from metaloop.inner.meta_gradients.linear_solver import ConjugateGradient, LinearSolver, Neumann
from metaloop.inner.meta_gradients.meta_gradient import Displacement, FirstOrder, MetaGradient, Nothing, Unrolled
from metaloop.inner.meta_gradients.reverse_sweep import ReverseSweep
from metaloop.inner.meta_gradients.truncated import Truncated, Windows
from metaloop.inner.objective import AnnealedSum, LastStep, Objective, Start, WeightedSum
from metaloop.inner.rules.curvature import MetaCurvature
from metaloop.inner.rules.generated_rates import GeneratedRates
from metaloop.inner.rules.learned_optimizer import LearnedOptimizer
from metaloop.inner.rules.learned_rates import LearnedRate, LearnedRateAndDecay
from metaloop.inner.rules.masked import Masked
from metaloop.inner.rules.meta_lstm import MetaLSTM
from metaloop.inner.rules.optimizers import Adam, Momentum, RMSprop, SignDescent
from metaloop.inner.rules.rule import GradientDescent, InnerRule
from metaloop.inner.rules.scheduled import ScheduledDescent
from metaloop.inner.selection.adapted import Adapted, All, Body, Head, Pattern
from metaloop.inner.selection.context import Context
from metaloop.inner.selection.low_rank import LowRank
from metaloop.inner.selection.warp import Warped
from metaloop.learners.context.in_context import InContext
from metaloop.learners.context.reader import Reader
from metaloop.learners.context.readers import processes
from metaloop.learners.context.readers.background import BackgroundPrototypes
from metaloop.learners.context.readers.recurrent import LSTM, Memory
from metaloop.learners.context.readers.set_transformer import SetTransformer
from metaloop.learners.context.readers.snail import Snail
from metaloop.learners.context.readers.table import TableTransformer
from metaloop.learners.context.readers.versa import Versa
from metaloop.learners.control.acting import Acting
from metaloop.learners.control.imitation import Imitation
from metaloop.learners.control.latent.varibad import VariBAD
from metaloop.learners.control.pearl.learner import PEARL
from metaloop.learners.control.policy_gradient.learner import PolicyGradientLearner
from metaloop.learners.control.rl2 import RL2
from metaloop.learners.control.update_rules.disco.learner import Disco103
from metaloop.learners.control.update_rules.lpg import LPG
from metaloop.learners.ensemble import Ensemble
from metaloop.learners.estimator import Estimator
from metaloop.learners.gradient.augmentation import GaussianNoise, NoAugmentation, SupportAugmentation
from metaloop.learners.gradient.gradient_learner import GradientLearner
from metaloop.learners.gradient.pretrained import Pretrained
from metaloop.learners.gradient.support_loss import LearnedWeights, MeanLoss, SupportLoss
from metaloop.learners.gradient.support_order import Shuffled, SupportOrder
from metaloop.learners.learner import Learner
from metaloop.learners.metric.comparison import Comparison, Embedding
from metaloop.learners.metric.comparisons.cosine import Cosine
from metaloop.learners.metric.comparisons.euclidean import Euclidean
from metaloop.learners.metric.comparisons.laplacian import Laplacian
from metaloop.learners.metric.comparisons.local_descriptors import LocalDescriptors
from metaloop.learners.metric.comparisons.logistic import Logistic
from metaloop.learners.metric.comparisons.matching import Matching, MatchingInContext
from metaloop.learners.metric.comparisons.nearest import Nearest
from metaloop.learners.metric.comparisons.query_entropy import TIM, TransductiveFineTuning
from metaloop.learners.metric.comparisons.relation import Relation
from metaloop.learners.metric.comparisons.ridge import Ridge
from metaloop.learners.metric.comparisons.set_to_set import SetToSet
from metaloop.learners.metric.comparisons.soft_kmeans import SoftKMeans, SoftKMeansCluster, SoftKMeansMasked
from metaloop.learners.metric.comparisons.svm import SVM
from metaloop.learners.metric.metric_learner import MetricLearner
from metaloop.learners.metric.regime import Regime
from metaloop.learners.metric.transform import Centred, Transform, Unchanged, UnitLength
from metaloop.learners.selection.selector import Selector
from metaloop.models.bag_of_words import BagOfWords
from metaloop.models.cells import Cells
from metaloop.models.convolutional.conv4 import Conv4
from metaloop.models.convolutional.resnet import ResNet12, ResNet18, WideResNet
from metaloop.models.item_factors import ItemFactors
from metaloop.models.mlp import MLP
from metaloop.models.optimisee import Optimisee
from metaloop.models.projection import OnFeatures
from metaloop.models.rating_net import RatingNet
from metaloop.models.transformers.text_encoder import TextClassifier
from metaloop.models.transformers.vision_encoder import ImageClassifier
from metaloop.problems.control import Regret
from metaloop.problems.task_loss import (
    BalancedLogistic,
    CrossEntropy,
    DeepSAD,
    MeanSquaredError,
    NegativeLogLikelihood,
    TaskLoss,
)
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

SEEN_WORDS = {"input_ids": torch.arange(18).view(3, 6), "attention_mask": torch.ones(3, 6, dtype=torch.long)}

TINY_VIT = {
    "model_type": "vit",
    "patch_size": 4,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}

ADAPTED: Mapping[str, Adapted] = {
    "all": All(),
    "head": Head(),
    "body": Body(),
    "pattern": Pattern(r"blocks\.[13]|layers\.0|intermediate|head\.weight"),
    "context inputs": Context(3, r"blocks\.[13]\.conv$|layers\.0$|query$", "concatenate"),
    "context, film": Context(3, r"blocks\.[02]\.pool$|layers\.0$|intermediate\.dense$", "film"),
    "context, film, residual": Context(3, r"blocks\.[02]$|layers\.0$|intermediate\.dense$", "film", residual=True),
    "low rank": LowRank(2, 1.5, r"blocks\.[13]\.conv$|layers\.0$|query$|intermediate\.dense$"),
    "warped": Warped(r"blocks\.[13]\.conv$|layers\.0$|query$|intermediate\.dense$"),
}


def trained(params: Params, build: Rule, size: float = 0.05) -> InnerRule:
    """A rule away from its start, as training leaves it: where it starts as plain descent, not all of it would matter."""
    rule = build(params)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in rule.parameters():
            value.add_(size * torch.randn(value.shape, generator=random, dtype=value.dtype))
    return rule


RULES: Mapping[str, Rule] = {
    "gradient descent": partial(GradientDescent, lr=0.1),
    "rate per tensor": partial(LearnedRate, lr=0.1, granularity="tensor"),
    "rate per element": partial(LearnedRate, lr=0.1, granularity="element"),
    "gradient descent, clipped and decayed": partial(GradientDescent, lr=0.5, weight_decay=0.1, max_norm=0.3),
    "rate per tensor and step": partial(trained, build=partial(LearnedRate, lr=0.1, granularity="tensor", steps=2)),
    "rate and decay": partial(LearnedRateAndDecay, lr=0.1, weight_decay=0.1),
    "momentum": partial(Momentum, lr=0.1, momentum=0.9),
    "nesterov, clipped and decayed": partial(Momentum, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, max_norm=0.3),
    "adam": partial(
        Adam, lr=0.01, eps_root=1e-4
    ),  # with less, the curvature at gradients near zero is too high for finite differences
    "rmsprop": partial(RMSprop, lr=0.01, eps_root=1e-4),
    "rate per step": partial(ScheduledDescent, rates=[0.1, 0.05]),
    "sign descent": partial(SignDescent, lr=0.01),
    "meta-curvature": partial(trained, build=partial(MetaCurvature, lr=0.1, learn_lr=True)),
    "generated rates": partial(trained, build=partial(GeneratedRates, lr=0.1, decay=0.5, steps=2)),
    "learned optimizer": partial(trained, build=partial(LearnedOptimizer, hidden=3, layers=2)),
    "masked": partial(trained, build=partial(Masked, rule=partial(GradientDescent, lr=0.1)), size=0.2),
    "meta-lstm": partial(trained, build=partial(MetaLSTM, hidden=3)),
}
_PLAIN = ("gradient descent", "rate per tensor", "rate per element", "momentum", "adam", "rmsprop", "sign descent")
# Rules that move every number against its gradient. Learned optimizers start at random, and weight decay pulls elsewhere.
DESCENDING: Mapping[str, Rule] = {
    **{name: RULES[name] for name in _PLAIN},
    "rate per tensor and step, as built": partial(LearnedRate, lr=0.1, granularity="tensor", steps=2),
    "meta-curvature, as built": partial(MetaCurvature, lr=0.1),
    "generated rates, as built": partial(GeneratedRates, lr=0.1, decay=0.5, steps=2),
}
# Exact for the two inner steps of the contract tests.
EXACT: Mapping[str, MetaGradient] = {
    "unrolled": Unrolled(),
    "reverse sweep": ReverseSweep(),
    "truncated, all steps": Truncated(last=2),
    "windows, one": Windows(length=2, second_order=True),
    "annealed, after": Annealed(FirstOrder(), ReverseSweep(), until=0),
}
SOLVERS: Mapping[str, LinearSolver] = {
    "conjugate gradient": ConjugateGradient(iterations=4),
    "neumann": Neumann(terms=4, rate=0.3),
}
APPROXIMATE: Mapping[str, MetaGradient] = {
    "first order": FirstOrder(),
    "displacement": Displacement(),
    "displacement, unit steps": Displacement(unit_steps=True),
    "by part": ByPart(Displacement(unit_steps=True), Windows(length=1, second_order=True)),
    "truncated": Truncated(last=1),
    "windows": Windows(length=1, second_order=True),
    "windows, first order": Windows(length=1, second_order=False),
    "annealed, before": Annealed(FirstOrder(), Unrolled(), until=10),
    "implicit, conjugate gradient": Implicit(SOLVERS["conjugate gradient"]),
    "implicit, neumann": Implicit(SOLVERS["neumann"]),
    "evolution": EvolutionStrategies(pairs=2, sigma=0.01),
    "persistent evolution": PersistentEvolution(pairs=2, sigma=0.01, length=1),
    "nothing": Nothing(),
}
OBJECTIVES: Mapping[str, Objective] = {
    "last step": LastStep(),
    "weighted sum": WeightedSum(),
    "weighted sum, given": WeightedSum([0.5, 2.0]),
    "annealed": AnnealedSum(until=0),
    "annealed, on the way": AnnealedSum(until=10),
    "start": Start(),
}
HEAD_INITS: Mapping[str, HeadInit] = {
    "learned": Learned(),
    "zero": Zero(),
    "prototypes": FromPrototypes(),
    "shared": Shared(),
    "fresh": Fresh(),
}
WORKERS = Workers(processes=2)  # shared by all tests, since a process takes seconds to start
OVER_TASKS: Mapping[str, Callable[[], OverTasks]] = {
    "loop": Loop,
    "vmap": Vmap,
    "vmap, chunks": lambda: Vmap(chunk=2),
    "auto": lambda: Auto(expected_steps=1),
    "workers": lambda: WORKERS,
}
TASK_LOSSES: Mapping[str, TaskLoss] = {
    "cross-entropy": CrossEntropy(),
    "mean squared error": MeanSquaredError(),
    "negative log-likelihood": NegativeLogLikelihood(),
}

SUPPORT_LOSSES: Mapping[str, Callable[[], SupportLoss]] = {
    "mean": MeanLoss,
    "learned weights": partial(LearnedWeights, units=4, highest=3.0),
}
AUGMENTATIONS: Mapping[str, Callable[[], SupportAugmentation]] = {
    "none": NoAugmentation,
    "gaussian noise": partial(GaussianNoise, strength=0.2),
}


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
    proximal: float = 0.0,
    support_loss: SupportLoss | None = None,
    augmentation: SupportAugmentation | None = None,
    inner_order: SupportOrder | None = None,
) -> GradientLearner:
    """Build a gradient-based learner, by default MAML."""
    return GradientLearner(
        model,
        loss,
        adapted,
        rule,
        meta_gradient,
        objective,
        head_init,
        over_tasks,
        steps,
        inner_batch=inner_batch,
        proximal=proximal,
        support_loss=support_loss,
        augmentation=augmentation,
        inner_order=inner_order,
    )


CLASSES = 5  # number of meta-training classes of the synthetic tasks


def pretrained(
    model: nn.Module,
    over_tasks: OverTasks,
    *,
    loss: TaskLoss = TASK_LOSSES["cross-entropy"],
    classes: int | None = CLASSES,
    adapted: Adapted = ADAPTED["head"],
    rule: Rule = RULES["momentum"],
    head_init: HeadInit = HEAD_INITS["zero"],
    eval_steps: int = 3,
    inner_batch: int | None = None,
    cosine_scale: float | None = None,
) -> Pretrained:
    """Build a pretrained learner, by default Baseline of Chen et al. 2019."""
    return Pretrained(
        model, loss, classes, adapted, rule, head_init, over_tasks, eval_steps, inner_batch, cosine_scale=cosine_scale
    )


Compares = Comparison | Callable[[Embedding], Comparison]
COMPARISONS: Mapping[str, Callable[[], Compares]] = {
    "prototypes": Euclidean,
    "prototypes, learned scale": partial(Euclidean, scale=0.5, learn_scale=True),
    "prototypes, cosine": Cosine,
    "nearest": partial(Nearest, scale=0.5, learn_scale=True),
    "matching": partial(Matching, scale=3.0, learn_scale=True),
    "matching, in context": lambda: partial(MatchingInContext, reads=2, scale=3.0),
    "relation": lambda: partial(Relation, filters=16),
    "feat": lambda: partial(SetToSet, scale=0.5, auxiliary_scale=0.5),
    "dn4": partial(LocalDescriptors, neighbours=2),
    "ridge": Ridge,
    "logistic": Logistic,
    "svm": SVM,
    "soft k-means": SoftKMeans,
    "soft k-means, cluster": SoftKMeansCluster,
    "soft k-means, masked": partial(SoftKMeansMasked, differentiate_statistics=True),
    "laplacian": Laplacian,
    "transductive fine-tuning": partial(TransductiveFineTuning, steps=5),
    "tim": partial(TIM, steps=5, lr=0.2, optimizer="gradient_descent"),
    "tim, adam": partial(TIM, steps=5, lr=0.01),
}
USING_UNLABELLED = ("soft k-means", "soft k-means, cluster", "soft k-means, masked")
TRANSDUCTIVE = ("laplacian", "transductive fine-tuning", "tim", "tim, adam")
TRANSFORMS: Mapping[str, Callable[[Embedding], Transform]] = {
    "none": lambda embedding: Unchanged(),
    "unit length": lambda embedding: UnitLength(),
    "centred": Centred,
}
EMBEDDING = Embedding(4, (4, 2, 2))


def metric(
    model: nn.Module, over_tasks: OverTasks, *, comparison: str, transform: str = "none", classification_steps: int | None = 0
) -> MetricLearner:
    """Build a metric learner from entries of the tables, in float64."""
    made, regime = COMPARISONS[comparison](), Regime(classification_steps)
    loss = TASK_LOSSES["cross-entropy"]
    return MetricLearner(model, loss, made, over_tasks, TRANSFORMS[transform], regime, CLASSES).double()


METRIC: Mapping[str, Callable[[nn.Module, OverTasks], MetricLearner]] = {
    **{name: partial(metric, comparison=name) for name in COMPARISONS},
    "prototypes, unit length": partial(metric, comparison="prototypes, learned scale", transform="unit length"),
    "simpleshot": partial(metric, comparison="prototypes", transform="centred", classification_steps=None),
    "meta-baseline": partial(metric, comparison="prototypes, cosine", classification_steps=5),
}
OF_MAPS = ("relation", "dn4")


def in_context(reader: Callable[..., Reader], targets: str = "query") -> Callable[[nn.Module, OverTasks], Learner]:
    """Build an in-context learner for the synthetic tasks, in float64."""

    def build(model: nn.Module, over_tasks: OverTasks) -> InContext:
        loss = TASK_LOSSES["cross-entropy"]
        return InContext(model, loss, 3, reader, over_tasks, gaussian=True, targets=targets).double()

    return build


READERS: Mapping[str, Callable[..., Reader]] = {
    "mean": partial(processes.Mean, width=8, layers=2),
    "pooled paths": partial(processes.PooledPaths, width=8, paths=2, before=2, after=2, layers=2),
    "cross attention": partial(processes.CrossAttention, width=8, layers=2, heads=2),
    "transformer": partial(processes.Transformer, width=8, layers=2, heads=2),
    "set transformer": partial(SetTransformer, width=8, layers=2, heads=2, inducing=3, seeds=2, norm=True),
    "set transformer, one seed": partial(SetTransformer, width=8, layers=1, heads=2, inducing=3, seeds=1, norm=False),
    "snail": partial(Snail, filters=4, keys=[4, 4, 4], values=[3, 3, 3], horizon=4),
    "lstm": partial(LSTM, hidden=6, layers=2),
    "memory": partial(Memory, hidden=6, slots=5, width=4, heads=2, decay=0.9),
    "memory, gate of the controller": partial(Memory, hidden=6, slots=5, width=4, heads=2, decay=0.9, gate="controller"),
    "versa": partial(Versa, width=8, layers=2, draws=3),
    "table": partial(TableTransformer, width=8, layers=2, heads=2),
}

IN_CONTEXT: Mapping[str, Callable[[nn.Module, OverTasks], Learner]] = {
    **{name: in_context(reader) for name, reader in READERS.items()},
    "mean, all targets": in_context(READERS["mean"], targets="all"),
}

LEARNERS: Mapping[str, Callable[[nn.Module, OverTasks], Learner]] = {
    **IN_CONTEXT,
    "maml": gradient_learner,
    "fomaml": partial(gradient_learner, meta_gradient=APPROXIMATE["first order"]),
    "reptile": partial(gradient_learner, meta_gradient=APPROXIMATE["displacement"]),
    "anil, reverse sweep": partial(gradient_learner, adapted=ADAPTED["head"], meta_gradient=EXACT["reverse sweep"]),
    "boil, weighted sum": partial(gradient_learner, adapted=ADAPTED["body"], objective=OBJECTIVES["weighted sum, given"]),
    "metasgd, zero head": partial(
        gradient_learner, rule=RULES["rate per element"], head_init=HEAD_INITS["zero"], adapted=ADAPTED["pattern"]
    ),
    "protomaml": partial(gradient_learner, head_init=HEAD_INITS["prototypes"]),
    "inner batches": partial(gradient_learner, inner_batch=4, rule=RULES["rate per tensor"]),
    "inner batches, shuffled": partial(gradient_learner, inner_batch=4, inner_order=Shuffled()),
    "learned weights": lambda model, over_tasks: gradient_learner(
        model, over_tasks, support_loss=SUPPORT_LOSSES["learned weights"]().double()
    ),
    "finetune": pretrained,
    "finetune, cosines": partial(pretrained, cosine_scale=5.0, head_init=HEAD_INITS["learned"]),
    "joint": partial(pretrained, adapted=ADAPTED["all"], head_init=HEAD_INITS["learned"]),
    **METRIC,
}


def width(norm: str) -> int:
    """Choose the number of channels: with fewer than three in a group, group norm keeps little but signs."""
    return 24 if norm == "group" else 8


# The input shape of the contract tests, and how to build the model for it.
MODELS: Mapping[str, tuple[tuple[int, ...], Build]] = {
    "conv4, stride": (
        (1, 8, 8),
        lambda shape, outputs, norm: Conv4(shape, outputs, filters=width(norm), downsample="stride", norm=norm),
    ),
    "conv4, maps": (
        (1, 8, 8),
        lambda shape, outputs, norm: Conv4(shape, outputs, filters=width(norm), downsample="stride", norm=norm, halvings=2),
    ),
    "conv4, pool": (
        (1, 16, 16),
        lambda shape, outputs, norm: Conv4(shape, outputs, filters=width(norm), downsample="pool", norm=norm),
    ),
    "mlp": ((5,), lambda shape, outputs, norm: MLP(shape, outputs, hidden=[width(norm)] * 2, norm=norm)),
    "optimisee": (
        (5,),
        lambda shape, outputs, norm: Optimisee(shape, outputs, hidden=[6], activation="tanh", bias=True, scale=1.0),
    ),
    "resnet12": (
        (1, 16, 16),
        lambda shape, outputs, norm: ResNet12(shape, outputs, filters=[width(norm)] * 4, norm=norm),
    ),
    "resnet18": ((1, 16, 16), lambda shape, outputs, norm: ResNet18(shape, outputs, filters=width(norm), norm=norm)),
    "wide resnet": ((1, 8, 8), lambda shape, outputs, norm: WideResNet(shape, outputs, depth=10, widen=1, norm=norm)),
    "vision": ((3, 8, 8), lambda shape, outputs, norm: ImageClassifier(shape, outputs, config=TINY_VIT)),
    "text": ((6,), lambda shape, outputs, norm: TextClassifier(shape, outputs, config=TINY_BERT)),
    "on features": ((5,), lambda shape, outputs, norm: OnFeatures(shape, outputs, projection=4)),
    "bag of words": ((6,), lambda shape, outputs, norm: BagOfWords(shape, outputs, SEEN_WORDS, size=20)),
}
# Whose layers the patterns of ADAPTED do not name, or which have none below the head.
OF_OTHER_NAMES = ("resnet12", "resnet18", "wide resnet", "vision", "on features", "bag of words")
OF_TEXTS = ("text", "bag of words")

ALL_MEMBERS: Mapping[type, set[type]] = {
    Adapted: {type(each) for each in ADAPTED.values()},
    InnerRule: {type(build({"weight": torch.ones(2, 2)})) for build in RULES.values()},
    MetaGradient: {type(each) for each in (EXACT | APPROXIMATE).values()},  # type: ignore[operator]
    LinearSolver: {type(each) for each in SOLVERS.values()},
    Objective: {type(each) for each in OBJECTIVES.values()},
    HeadInit: {type(each) for each in HEAD_INITS.values()} | {Center},  # of a head of its own: test_deep_sad.py
    OverTasks: {type(make()) for make in OVER_TASKS.values()},
    Learner: {type(make(MLP((2,), 2, [2]), Loop())) for name, make in LEARNERS.items() if name not in OF_MAPS}
    | {Ensemble, Estimator, Selector}  # they do not learn, and have their own tests
    | {
        Acting,
        Disco103,
        Imitation,
        LPG,
        PEARL,
        PolicyGradientLearner,
        RL2,
        VariBAD,
    },  # they act in environments, and have their own tests
    Reader: {type(make(features=2, labels=2, outputs=2)) for make in READERS.values()}
    | {BackgroundPrototypes},  # it scores anomalies: test_evidence.py
    TaskLoss: {type(each) for each in TASK_LOSSES.values()} | {BalancedLogistic, DeepSAD, Regret},  # have their own
    Comparison: {type(each if isinstance(each := make(), Comparison) else each(EMBEDDING)) for make in COMPARISONS.values()},
    Transform: {type(make(EMBEDDING)) for make in TRANSFORMS.values()},
    SupportLoss: {type(make()) for make in SUPPORT_LOSSES.values()},
    SupportAugmentation: {type(make()) for make in AUGMENTATIONS.values()},
    nn.Module: {type(build(shape, 2, "none")) for shape, build in MODELS.values()}
    | {Cells}  # it has no parameters
    | {RatingNet, ItemFactors},  # of categories: tests/unit/models/test_rating_models.py
}


@cache
def package_classes() -> frozenset[type]:
    """Collect all classes defined in the package's modules, except entry points."""
    found = set()
    for module in pkgutil.walk_packages(metaloop.__path__, "metaloop."):
        if module.name.rpartition(".")[0] == "metaloop" or module.name.endswith("__main__"):
            continue  # entry points
        members = vars(importlib.import_module(module.name)).values()
        found |= {each for each in members if inspect.isclass(each) and each.__module__ == module.name}
    return frozenset(found)


def is_model(cls: type) -> bool:
    """Whether a class has the constructor arguments that ``conf/model`` uses."""
    return issubclass(cls, nn.Module) and list(inspect.signature(cls).parameters)[:2] == ["input_shape", "outputs"]


def not_covered(base: type, classes: frozenset[type]) -> set[str]:
    """Names of the concrete subclasses of ``base`` (models for ``nn.Module``) in ``classes`` that no table contains."""
    if base is nn.Module:
        members = {cls for cls in classes if is_model(cls)}
    else:
        members = {cls for cls in classes if issubclass(cls, base) and not inspect.isabstract(cls)}
    return {cls.__name__ for cls in members - ALL_MEMBERS[base]}
